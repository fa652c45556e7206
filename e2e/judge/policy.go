package judge

import (
	"context"
	"crypto/x509"
	"fmt"

	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Policy is a trust policy of notation, as trustpolicy.json has it, with the certificates of its stores in memory.
type Policy struct {
	Document trustpolicy.Document
	Stores   map[string][]*x509.Certificate // by "kind:name"
}

// GetCertificates is what notation reads of a folder of certificates, with the rules that it has for them.
func (p Policy) GetCertificates(ctx context.Context, kind truststore.Type, name string) ([]*x509.Certificate, error) {
	certs, ok := p.Stores[string(kind)+":"+name]
	if !ok {
		return nil, fmt.Errorf("judge: no trust store %s:%s", kind, name)
	}
	return store{kind: certs}.GetCertificates(ctx, kind, name)
}

// Verify says what `notation verify` by p says of an artifact of the repository path, for which signatures are listed and no others,
// in that order. It asks no registry and no network. nil is acceptance.
func (p Policy) Verify(ctx context.Context, path string, subject ocispec.Descriptor, signatures ...Signature) error {
	signers, err := unasked(purpose.CodeSigning)
	if err != nil {
		return err
	}
	stamps, err := unasked(purpose.Timestamping)
	if err != nil {
		return err
	}
	v, err := verifier.NewWithOptions(&p.Document, p, nil, verifier.VerifierOptions{
		RevocationCodeSigningValidator: signers, RevocationTimestampingValidator: stamps,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	_, _, err = notation.Verify(ctx, v, &shelf{subject, signatures}, notation.VerifyOptions{
		ArtifactReference:    path + "@" + subject.Digest.String(),
		MaxSignatureAttempts: maxSignatures,
	})
	return err
}
