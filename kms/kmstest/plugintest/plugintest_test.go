package plugintest_test

import (
	"context"
	"crypto/x509"
	"os"
	"strings"
	"testing"

	"github.com/notaryproject/notation-core-go/signature"
	notation "github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/plugin"
	notationsigner "github.com/notaryproject/notation-go/signer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/plugintest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	plugintest.Clean()
	os.Exit(code)
}

// TestStockHost: notation's own host takes the plugin for one, so that a test with it says something of other plugins too.
func TestStockHost(t *testing.T) {
	t.Parallel()
	p := plugintest.New(t)
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:" + testDigest, Size: 7}
	for _, algorithm := range []string{"P-256", "P-521", "RSA-2048"} {
		for _, capability := range []string{"RAW", "ENVELOPE"} {
			for _, kind := range []string{"application/jose+json", "application/cose"} {
				key, chain := certtest.ChainOf(3, algorithm)
				c := p.AddKey(algorithm, key, chain...).With("capabilities", capability)
				if err := sign(t.Context(), p.Path, c, kind, subject, chain); err != nil {
					t.Errorf("%s %s %s: %v", algorithm, capability, kind, err)
				}
			}
		}
	}
	if n := p.Calls("generate-envelope"); n != 6 {
		t.Errorf("%d envelopes, want 6", n)
	}
	c := p.AddKey("bad", certtest.Key("P-256")).With("fault", "error=ACCESS_DENIED").With("capabilities", "ENVELOPE")
	if err := sign(t.Context(), p.Path, c, "application/cose", subject, nil); err == nil || !strings.Contains(err.Error(), "as the test wants it") {
		t.Errorf("a plugin that denies: %v", err)
	}
}

const testDigest = "0000000000000000000000000000000000000000000000000000000000000000"

func sign(ctx context.Context, path string, c plugintest.Config, kind string, subject ocispec.Descriptor, chain []*x509.Certificate) error {
	host, err := plugin.NewCLIPlugin(ctx, "test", path)
	if err != nil {
		return err
	}
	s, err := notationsigner.NewPluginSigner(host, "key", c)
	if err != nil {
		return err
	}
	b, _, err := s.Sign(ctx, subject, notation.SignerSignOptions{SignatureMediaType: kind})
	if err != nil {
		return err
	}
	e, err := signature.ParseEnvelope(kind, b)
	if err != nil {
		return err
	}
	content, err := e.Verify()
	if err == nil {
		_, err = signature.VerifyAuthenticity(&content.SignerInfo, chain[len(chain)-1:])
	}
	return err
}
