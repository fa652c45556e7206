package judge_test

import (
	"context"
	"crypto/x509"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// The judge itself: it accepts what notation signed, and only that.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, place := range []string{string(regtest.WithAPI), string(regtest.WithoutAPI), "layout"} {
		for _, format := range []string{"jws", "cose"} {
			t.Run(place+" "+format, func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				ref := push(t, place)
				if err := judge.Verify(ctx, ref, certtest.Root("any").Certificate); err == nil {
					t.Fatal("unsigned: accepted")
				}
				key, chain := certtest.ChainOf(3, "P-256")
				if err := judge.Sign(ctx, ref, key, chain, judge.SignOptions{Format: format}); err != nil {
					t.Fatal(err)
				}
				if err := judge.Verify(ctx, ref, chain[2]); err != nil {
					t.Errorf("signed: %v", err)
				}
				if err := judge.Verify(ctx, ref, certtest.Root("another").Certificate); err == nil {
					t.Error("another root: accepted")
				}
				signatures, err := judge.Signatures(ctx, ref)
				if err != nil || len(signatures) != 1 {
					t.Fatalf("listed %v, %v; want one", signatures, err)
				}
				if err := judge.VerifyOnly(ctx, ref, signatures[0], chain[2]); err != nil {
					t.Errorf("that one: %v", err)
				}
				if err := judge.VerifyOnly(ctx, ref, digest.FromString("none"), chain[2]); err == nil {
					t.Error("none of them: accepted")
				}
				if mediaType, b, err := judge.Envelope(ctx, ref, signatures[0]); err != nil || len(b) == 0 {
					t.Errorf("envelope %q of %d bytes, %v", mediaType, len(b), err)
				}
			})
		}
	}
}

// An expired certificate is rejected: level strict judges time.
func TestJudgeStrict(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ref := push(t, string(regtest.WithAPI))
	key, chain := certtest.ChainOf(1, "P-256")
	if err := judge.Sign(ctx, ref, key, chain, judge.SignOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := judge.Verify(ctx, ref, chain...); err != nil {
		t.Errorf("self-signed leaf: %v", err)
	}
	if err := judge.Verify(ctx, ref, []*x509.Certificate{}...); err == nil {
		t.Error("no roots: accepted")
	}
}

// push puts an image without layers where place says and returns its reference.
func push(t *testing.T, place string) string {
	t.Helper()
	ctx := context.Background()
	var target oras.Target
	var ref, tag string
	if place == "layout" {
		dir := t.TempDir()
		layout, err := oci.New(dir)
		if err != nil {
			t.Fatal(err)
		}
		target, ref, tag = layout, "oci:"+dir+":v1", "v1"
	} else {
		ref, tag = regtest.New(t, regtest.Kind(place)).Host+"/app:v1", "v1"
		r, err := remote.NewRepository(ref)
		if err != nil {
			t.Fatal(err)
		}
		r.PlainHTTP = true
		target = r
	}
	d, err := oras.PackManifest(ctx, target, oras.PackManifestVersion1_1, "application/vnd.example", oras.PackManifestOptions{
		ManifestAnnotations: map[string]string{ocispec.AnnotationCreated: "2026-01-01T00:00:00Z"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Tag(ctx, d, tag); err != nil {
		t.Fatal(err)
	}
	return ref
}
