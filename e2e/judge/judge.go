// Package judge is the stock verifier and signer of the Notary Project, notation-go, as tests and the demo use it:
// nothing of imprint is in it.
package judge

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-go"
	notationregistry "github.com/notaryproject/notation-go/registry"
	notationsigner "github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// scope is the artifact path that stands for a layout's: notation names a layout by a scope of the caller's choice.
const scope = "local/layout"

// maxSignatures is notation's own default.
const maxSignatures = 100

// A place is what a reference of imprint's kind is to notation: HOST/REPO:TAG, HOST/REPO@DIGEST, oci:DIR:NAME or oci:DIR@DIGEST.
type place struct {
	repo      notationregistry.Repository
	path      string // the artifact path that the policy sees
	reference string // tag, name or digest
}

// client has connections of its own: a test server that closes ends the idle ones of everybody who uses http.DefaultTransport.
var client = &auth.Client{Client: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}

func open(ref string) (place, error) {
	if layout, ok := strings.CutPrefix(ref, "oci:"); ok {
		dir, name, ok := strings.Cut(layout, "@")
		if !ok {
			dir, name, ok = strings.Cut(layout, ":")
		}
		if !ok {
			return place{}, fmt.Errorf("judge: %s names no artifact", ref)
		}
		repo, err := notationregistry.NewOCIRepository(dir, notationregistry.RepositoryOptions{})
		return place{repo, scope, name}, err
	}
	r, err := remote.NewRepository(ref)
	if err != nil {
		return place{}, err
	}
	r.Client = client
	r.PlainHTTP = true
	path := r.Reference.Registry + "/" + r.Reference.Repository
	return place{notationregistry.NewRepository(r), path, r.Reference.Reference}, nil
}

// A Setting is a way in which a trust policy of notation has timestamps judged.
type Setting string

// The settings; their spelling is imprint's, so that its own convert.
const (
	NoTSARoot       Setting = "no-tsa-root"           // no trust store of kind tsa: timestamps are ignored
	Always          Setting = "tsa-always"            // verifyTimestamp: always
	AfterCertExpiry Setting = "tsa-after-cert-expiry" // verifyTimestamp: afterCertExpiry
)

// A store is a trust store in memory: of each kind the certificates that it has.
type store map[truststore.Type][]*x509.Certificate

func (s store) GetCertificates(_ context.Context, kind truststore.Type, _ string) ([]*x509.Certificate, error) {
	certs, ok := s[kind]
	if !ok {
		return nil, fmt.Errorf("judge: no trust store of kind %s", kind)
	}
	if kind == truststore.TypeTSA { // as notation reads such a store
		for _, c := range certs {
			if err := c.CheckSignatureFrom(c); err != nil {
				return nil, fmt.Errorf("judge: %s is no root of timestamp authorities: %w", c.Subject, err)
			}
		}
	}
	return certs, truststore.ValidateCertificates(certs)
}

// A court is what a trust policy of notation says at level strict, with any identity.
type court struct {
	setting Setting
	store   store
}

// Verify says what `notation verify` says of ref at level strict, with roots as its only trust store and any
// identity. nil is acceptance.
func Verify(ctx context.Context, ref string, roots ...*x509.Certificate) error {
	return verify(ctx, ref, "", court{NoTSARoot, store{truststore.TypeCA: roots}})
}

// VerifyOnly is Verify as if signature, the digest of a signature manifest, were the only one listed. Stock verifiers
// stop at the first that passes; this asks about one that may stand behind others.
func VerifyOnly(ctx context.Context, ref string, signature digest.Digest, roots ...*x509.Certificate) error {
	return verify(ctx, ref, signature, court{NoTSARoot, store{truststore.TypeCA: roots}})
}

// VerifyAt is VerifyOnly with a setting for timestamps, of all listed signatures if signature is "". roots are
// trusted as certification authorities and as signing authorities, tsaRoots as those of timestamps. No certificate's
// status is asked for in the network: one that says where to ask has an unknown status, which is a rejection.
func VerifyAt(ctx context.Context, ref string, signature digest.Digest, setting Setting, roots, tsaRoots []*x509.Certificate) error {
	return verify(ctx, ref, signature, settled(setting, roots, tsaRoots))
}

// A Signature is an envelope as a signature manifest holds it.
type Signature struct {
	MediaType string
	Envelope  []byte
}

// VerifyEnvelopes is VerifyAt of an artifact for which signatures are listed, and no others, in that order. It asks no registry.
func VerifyEnvelopes(ctx context.Context, subject ocispec.Descriptor, signatures []Signature, setting Setting, roots, tsaRoots []*x509.Certificate) error {
	return settled(setting, roots, tsaRoots).verify(ctx, place{&shelf{subject, signatures}, scope, subject.Digest.String()})
}

func settled(setting Setting, roots, tsaRoots []*x509.Certificate) court {
	c := court{setting, store{truststore.TypeCA: roots, truststore.TypeSigningAuthority: roots}}
	if setting != NoTSARoot {
		c.store[truststore.TypeTSA] = tsaRoots
	}
	return c
}

func verify(ctx context.Context, ref string, signature digest.Digest, c court) error {
	p, err := open(ref)
	if err != nil {
		return err
	}
	if signature != "" {
		p.repo = only{p.repo, signature}
	}
	return c.verify(ctx, p)
}

// policy is c as notation reads it from a file.
func (c court) policy() (*trustpolicy.Document, error) {
	timestamps := map[Setting]trustpolicy.TimestampOption{
		NoTSARoot: "", Always: trustpolicy.OptionAlways, AfterCertExpiry: trustpolicy.OptionAfterCertExpiry,
	}
	when, ok := timestamps[c.setting]
	if !ok {
		return nil, fmt.Errorf("judge: unknown setting %q", c.setting)
	}
	var stores []string
	for _, kind := range truststore.Types {
		if _, ok := c.store[kind]; ok {
			stores = append(stores, string(kind)+":judge")
		}
	}
	return &trustpolicy.Document{
		Version: "1.0",
		TrustPolicies: []trustpolicy.TrustPolicy{{
			Name:           "judge",
			RegistryScopes: []string{"*"},
			SignatureVerification: trustpolicy.SignatureVerification{
				VerificationLevel: trustpolicy.LevelStrict.Name,
				VerifyTimestamp:   when,
			},
			TrustStores:       stores,
			TrustedIdentities: []string{"*"},
		}},
	}, nil
}

// ErrPolicy: notation does not take the policy at all.
var ErrPolicy = errors.New("judge: no trust policy")

// errOffline answers whoever asks the network for a certificate's status.
var errOffline = errors.New("judge: the network is not asked")

type offline struct{}

func (offline) RoundTrip(*http.Request) (*http.Response, error) { return nil, errOffline }

func (offline) Fetch(context.Context, string) (*crl.Bundle, error) { return nil, errOffline }

// unasked is notation's own check of revocation where no answer can be had.
func unasked(what purpose.Purpose) (revocation.Validator, error) {
	return revocation.NewWithOptions(revocation.Options{
		OCSPHTTPClient: &http.Client{Transport: offline{}}, CRLFetcher: offline{}, CertChainPurpose: what,
	})
}

func (c court) verify(ctx context.Context, p place) error {
	policy, err := c.policy()
	if err != nil {
		return err
	}
	signers, err := unasked(purpose.CodeSigning)
	if err != nil {
		return err
	}
	stamps, err := unasked(purpose.Timestamping)
	if err != nil {
		return err
	}
	v, err := verifier.NewWithOptions(policy, c.store, nil, verifier.VerifierOptions{
		RevocationCodeSigningValidator: signers, RevocationTimestampingValidator: stamps,
	})
	if err != nil {
		return err
	}
	subject, err := p.repo.Resolve(ctx, p.reference)
	if err != nil {
		return fmt.Errorf("resolving %s: %w", p.reference, err)
	}
	_, outcomes, err := notation.Verify(ctx, v, p.repo, notation.VerifyOptions{
		ArtifactReference:    p.path + "@" + subject.Digest.String(),
		MaxSignatureAttempts: maxSignatures,
	})
	for _, o := range outcomes {
		if o.Error != nil {
			err = errors.Join(err, o.Error)
		}
	}
	if err != nil {
		return err
	}
	if len(outcomes) != 1 || outcomes[0].VerificationLevel.Name != trustpolicy.LevelStrict.Name {
		return fmt.Errorf("judge: %d outcomes at success, want one at level strict", len(outcomes))
	}
	for _, r := range outcomes[0].VerificationResults {
		if r.Error != nil {
			return fmt.Errorf("judge: accepted in spite of %s: %w", r.Type, r.Error)
		}
	}
	return nil
}

// A shelf holds one artifact with its signatures in memory. A signature is listed by the digest of its
// envelope.
type shelf struct {
	subject    ocispec.Descriptor
	signatures []Signature
}

func (s *shelf) Resolve(_ context.Context, reference string) (ocispec.Descriptor, error) {
	if reference != s.subject.Digest.String() {
		return ocispec.Descriptor{}, fmt.Errorf("judge: there is no %s", reference)
	}
	return s.subject, nil
}

func (s *shelf) ListSignatures(_ context.Context, subject ocispec.Descriptor, fn func([]ocispec.Descriptor) error) error {
	var listed []ocispec.Descriptor
	if subject.Digest == s.subject.Digest {
		for _, sig := range s.signatures {
			listed = append(listed, sig.descriptor())
		}
	}
	return fn(listed)
}

func (sig Signature) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: sig.MediaType, Digest: digest.FromBytes(sig.Envelope), Size: int64(len(sig.Envelope))}
}

func (s *shelf) FetchSignatureBlob(_ context.Context, d ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	for _, sig := range s.signatures {
		if sig.descriptor().Digest == d.Digest {
			return sig.Envelope, sig.descriptor(), nil
		}
	}
	return nil, ocispec.Descriptor{}, fmt.Errorf("judge: there is no signature %s", d.Digest)
}

func (s *shelf) PushSignature(context.Context, string, []byte, ocispec.Descriptor, map[string]string) (blob, manifest ocispec.Descriptor, err error) {
	return blob, manifest, errors.New("judge: nothing is written here")
}

// only hides all signatures but one.
type only struct {
	notationregistry.Repository
	signature digest.Digest
}

func (o only) ListSignatures(ctx context.Context, subject ocispec.Descriptor, fn func([]ocispec.Descriptor) error) error {
	return o.Repository.ListSignatures(ctx, subject, func(listed []ocispec.Descriptor) error {
		var kept []ocispec.Descriptor
		for _, d := range listed {
			if d.Digest == o.signature {
				kept = append(kept, d)
			}
		}
		return fn(kept)
	})
}

// Signatures lists the digests of ref's signature manifests as `notation list` does.
func Signatures(ctx context.Context, ref string) ([]digest.Digest, error) {
	p, err := open(ref)
	if err != nil {
		return nil, err
	}
	subject, err := p.repo.Resolve(ctx, p.reference)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", ref, err)
	}
	var out []digest.Digest
	err = p.repo.ListSignatures(ctx, subject, func(listed []ocispec.Descriptor) error {
		for _, d := range listed {
			out = append(out, d.Digest)
		}
		return nil
	})
	return out, err
}

// Envelope reads the envelope of one signature as notation reads it, with its media type.
func Envelope(ctx context.Context, ref string, signature digest.Digest) (mediaType string, b []byte, err error) {
	p, err := open(ref)
	if err != nil {
		return "", nil, err
	}
	subject, err := p.repo.Resolve(ctx, p.reference)
	if err != nil {
		return "", nil, fmt.Errorf("resolving %s: %w", ref, err)
	}
	err = p.repo.ListSignatures(ctx, subject, func(listed []ocispec.Descriptor) error {
		for _, d := range listed {
			if d.Digest != signature {
				continue
			}
			blob, descriptor, err := p.repo.FetchSignatureBlob(ctx, d)
			if err != nil {
				return err
			}
			mediaType, b = descriptor.MediaType, blob
		}
		return nil
	})
	if err == nil && b == nil {
		err = fmt.Errorf("judge: %s lists no signature %s", ref, signature)
	}
	return mediaType, b, err
}

// SignOptions of [Sign].
type SignOptions struct {
	Format   string // "jws" ("" too) or "cose"
	Expiry   time.Duration
	Metadata map[string]string
}

// Sign signs ref with notation's own signer.
func Sign(ctx context.Context, ref string, key crypto.PrivateKey, chain []*x509.Certificate, o SignOptions) error {
	mediaType := "application/jose+json"
	if o.Format == "cose" {
		mediaType = "application/cose"
	}
	p, err := open(ref)
	if err != nil {
		return err
	}
	s, err := notationsigner.NewGenericSigner(key, chain)
	if err != nil {
		return err
	}
	_, err = notation.Sign(ctx, s, p.repo, notation.SignOptions{
		SignerSignOptions: notation.SignerSignOptions{SignatureMediaType: mediaType, ExpiryDuration: o.Expiry},
		ArtifactReference: p.reference,
		UserMetadata:      o.Metadata,
	})
	return err
}
