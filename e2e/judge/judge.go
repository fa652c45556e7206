// Package judge is the stock verifier and signer of the Notary Project, notation-go, as tests and the demo use it:
// nothing of imprint is in it.
package judge

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/notaryproject/notation-go"
	notationregistry "github.com/notaryproject/notation-go/registry"
	notationsigner "github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
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
	r.PlainHTTP = true
	path := r.Reference.Registry + "/" + r.Reference.Repository
	return place{notationregistry.NewRepository(r), path, r.Reference.Reference}, nil
}

// A store is a trust store in memory: one of certificate authorities.
type store []*x509.Certificate

func (s store) GetCertificates(_ context.Context, kind truststore.Type, _ string) ([]*x509.Certificate, error) {
	if kind != truststore.TypeCA {
		return nil, fmt.Errorf("judge: no trust store of kind %s", kind)
	}
	return s, truststore.ValidateCertificates(s)
}

// Verify says what `notation verify` says of ref at level strict, with roots as its only trust store and any
// identity. nil is acceptance.
func Verify(ctx context.Context, ref string, roots ...*x509.Certificate) error {
	p, err := open(ref)
	if err != nil {
		return err
	}
	return p.verify(ctx, roots)
}

// VerifyOnly is Verify as if signature, the digest of a signature manifest, were the only one listed. Stock verifiers
// stop at the first that passes; this asks about one that may stand behind others.
func VerifyOnly(ctx context.Context, ref string, signature digest.Digest, roots ...*x509.Certificate) error {
	p, err := open(ref)
	if err != nil {
		return err
	}
	p.repo = only{p.repo, signature}
	return p.verify(ctx, roots)
}

func (p place) verify(ctx context.Context, roots []*x509.Certificate) error {
	v, err := verifier.New(&trustpolicy.Document{
		Version: "1.0",
		TrustPolicies: []trustpolicy.TrustPolicy{{
			Name:                  "judge",
			RegistryScopes:        []string{"*"},
			SignatureVerification: trustpolicy.SignatureVerification{VerificationLevel: trustpolicy.LevelStrict.Name},
			TrustStores:           []string{"ca:judge"},
			TrustedIdentities:     []string{"*"},
		}},
	}, store(roots), nil)
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
