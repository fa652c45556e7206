package gcpkms

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	cloudkms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/imprint-oci/imprint/kms"
)

// A version is one version of a key, at its service.
type version struct {
	name   resource
	client *cloudkms.KeyManagementClient
}

// A usable algorithm of the service is one with which Notary Project signatures can be made. The service fixes the hash with the
// key, so that RSA 3072, which needs SHA-384, cannot be had there, nor P-521; and a PKCS #1 key signs nothing else.
type usable struct {
	algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm
	spec      string // kms.Algorithm.Spec
}

var usables = []usable{
	{kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256, "RSA-2048"},
	{kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA512, "RSA-4096"},
	{kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256, "EC-256"},
	{kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384, "EC-384"},
}

// public asks for the public key, and refuses a key of any but the usable algorithms.
func (v *version) public(ctx context.Context) (crypto.PublicKey, error) {
	var pub crypto.PublicKey
	err := kms.Ask(ctx, kms.DefaultPatience, func(ctx context.Context) error {
		var heard answer
		told, err := v.client.GetPublicKey(ctx, &kmspb.GetPublicKeyRequest{Name: string(v.name)}, heard.listen())
		if err != nil {
			return reading.failed(v.name, err, heard.came())
		}
		pub, err = v.parse(told)
		return err
	})
	return pub, err
}

func (v *version) parse(told *kmspb.PublicKey) (crypto.PublicKey, error) {
	if told.Name != string(v.name) {
		return nil, kms.Service("reading its public key: the answer is about %q", kms.Text(told.Name))
	}
	spec, err := specOf(told.Algorithm)
	if err != nil {
		return nil, err
	}
	if err := intact(told.PemCrc32C, []byte(told.Pem)); err != nil {
		return nil, damaged("reading its public key: the key %w", err)
	}
	block, rest := pem.Decode([]byte(told.Pem))
	if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, kms.Service("reading its public key: it is not exactly one PEM block PUBLIC KEY")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, kms.Service("reading its public key: %w", err)
	}
	a, err := kms.AlgorithmOf(pub)
	if err != nil {
		return nil, err
	}
	if a.Spec != spec {
		return nil, kms.Service("reading its public key: it is %s, but its algorithm is said to be %v", a.Spec, told.Algorithm)
	}
	return pub, nil
}

// specOf returns the key specification of an algorithm that is usable.
func specOf(algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) (string, error) {
	for _, u := range usables {
		if u.algorithm == algorithm {
			return u.spec, nil
		}
	}
	what := algorithm.String()
	if _, known := kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_name[int32(algorithm)]; !known {
		what = "number " + what
	}
	return "", unusable("its algorithm is " + what)
}

// unusable is the error of a key whose algorithm is not among the four.
func unusable(why string) *kms.Error {
	var names, gcloud []string
	for _, u := range usables {
		names = append(names, u.algorithm.String())
		gcloud = append(gcloud, strings.ToLower(strings.ReplaceAll(u.algorithm.String(), "_", "-")))
	}
	return &kms.Error{Code: kms.CodeAlgorithm, Class: kms.ErrInvalid,
		Err: fmt.Errorf("%s; of Google Cloud KMS, Notary Project signatures can use %s", why, strings.Join(names, ", ")),
		Remedy: "make another key: `gcloud kms keys create NAME --purpose asymmetric-signing --default-algorithm " + gcloud[len(gcloud)-1] +
			"` (or " + strings.Join(gcloud[:len(gcloud)-1], ", ") + ")"}
}

// sign has the service sign a digest, once. The checks are those that the service asks its clients to make ("Data integrity
// guidelines"); that the signature verifies is checked by [kms.Remote].
func (v *version) sign(ctx context.Context, r kms.SignRequest) ([]byte, error) {
	digest := &kmspb.Digest{}
	switch r.Algorithm.Hash {
	case crypto.SHA256:
		digest.Digest = &kmspb.Digest_Sha256{Sha256: r.Digest}
	case crypto.SHA384:
		digest.Digest = &kmspb.Digest_Sha384{Sha384: r.Digest}
	case crypto.SHA512:
		digest.Digest = &kmspb.Digest_Sha512{Sha512: r.Digest}
	}
	var heard answer
	told, err := v.client.AsymmetricSign(ctx, &kmspb.AsymmetricSignRequest{
		Name: string(v.name), Digest: digest, DigestCrc32C: wrapperspb.Int64(checksum(r.Digest)),
	}, heard.listen())
	switch {
	case err != nil:
		return nil, signing.failed(v.name, err, heard.came())
	case told.Name != string(v.name):
		return nil, kms.Failure(kms.CodeSignature, "", "the signature is by %q, not by the version that was asked", kms.Text(told.Name))
	case !told.VerifiedDigestCrc32C:
		return nil, damaged("the service did not see the checksum of the digest that it signed")
	}
	if err := intact(told.SignatureCrc32C, told.Signature); err != nil {
		return nil, damaged("the signature %w", err)
	}
	return told.Signature, nil
}

// checksum returns the CRC32C of b.
func checksum(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

// intact compares b with the checksum that came with it, which has to be there.
func intact(sum *wrapperspb.Int64Value, b []byte) error {
	switch {
	case sum == nil:
		return errors.New("came without its checksum")
	case sum.Value != checksum(b):
		return errors.New("does not match its checksum")
	}
	return nil
}

// damaged is the error of an answer that was changed on its way. The service's clients are to ask again then.
func damaged(format string, args ...any) error {
	return &kms.Error{Code: kms.CodeService, Class: kms.ErrService, Err: fmt.Errorf(format, args...), Temporary: true,
		Remedy: "something between here and cloudkms.googleapis.com changes what is sent: try without the proxy, or from another network"}
}
