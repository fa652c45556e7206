package judge

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/dir"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
)

// VerifyFolder says what `notation verify` says by the trust policy and the trust store of a folder, its configuration, of the artifact
// that is at ref, as if it were in the repository path. nil is acceptance.
func VerifyFolder(ctx context.Context, folder, path, ref string) error {
	p, err := open(ref)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(folder, dir.PathTrustPolicy))
	if err != nil {
		return err
	}
	var policy trustpolicy.Document
	if err := json.Unmarshal(b, &policy); err != nil {
		return fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	signers, err := unasked(purpose.CodeSigning)
	if err != nil {
		return err
	}
	stamps, err := unasked(purpose.Timestamping)
	if err != nil {
		return err
	}
	v, err := verifier.NewWithOptions(&policy, truststore.NewX509TrustStore(dir.NewSysFS(folder)), nil, verifier.VerifierOptions{
		RevocationCodeSigningValidator: signers, RevocationTimestampingValidator: stamps,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	subject, err := p.repo.Resolve(ctx, p.reference)
	if err != nil {
		return err
	}
	_, _, err = notation.Verify(ctx, v, p.repo, notation.VerifyOptions{
		ArtifactReference:    path + "@" + subject.Digest.String(),
		MaxSignatureAttempts: maxSignatures,
	})
	return err
}
