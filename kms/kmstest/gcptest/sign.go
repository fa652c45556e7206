package gcptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"hash/crc32"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
)

// hashes are the hashes that the algorithms fix.
var hashes = map[kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm]crypto.Hash{
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256: crypto.SHA256,
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_3072_SHA256: crypto.SHA256,
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA256: crypto.SHA256,
	kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA512: crypto.SHA512,
	kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256:      crypto.SHA256,
	kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384:      crypto.SHA384,
}

// sign signs a digest as the algorithm says, or wrongly as the fault says.
func (v *Version) sign(digest []byte, hash crypto.Hash, fault Fault) ([]byte, error) {
	want, ok := hashes[v.Algorithm]
	switch {
	case !ok:
		return nil, fail(codes.Unimplemented, "the emulator does not sign with "+v.Algorithm.String())
	case hash != want:
		return nil, fail(codes.InvalidArgument, "The digest type does not match the algorithm "+v.Algorithm.String()+".")
	case len(digest) != want.Size():
		return nil, fail(codes.InvalidArgument, "The digest has the wrong length.")
	}
	key, err := v.signer(fault)
	if err != nil {
		return nil, err
	}
	if fault == Truncated {
		digest = append(append([]byte(nil), digest[:7]...), make([]byte, len(digest)-7)...)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		if fault == LongSalt {
			opts.SaltLength = rsa.PSSSaltLengthAuto
		}
		return rsa.SignPSS(rand.Reader, key, hash, digest, opts)
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, key, digest)
	}
	return nil, fail(codes.Internal, "the emulator has no such key")
}

// signer returns the key, or another of its kind as if the version had been replaced.
func (v *Version) signer(fault Fault) (crypto.Signer, error) {
	if fault != OtherKey {
		return v.Key, nil
	}
	switch pub := v.Key.Public().(type) {
	case *rsa.PublicKey:
		return rsa.GenerateKey(rand.Reader, pub.N.BitLen())
	case *ecdsa.PublicKey:
		return ecdsa.GenerateKey(pub.Curve, rand.Reader)
	}
	return v.Key, nil
}

func crc32c(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }
