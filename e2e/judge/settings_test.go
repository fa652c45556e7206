package judge_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

var settings = []judge.Setting{judge.NoTSARoot, judge.Always, judge.AfterCertExpiry}

// stamped signs with notation and puts a token on it. The leaf was valid a month ago, and still is if lasts says so.
func stamped(t *testing.T, tsa *tsatest.Authority, lasts bool) (subject ocispec.Descriptor, sig judge.Signature, root *x509.Certificate) {
	t.Helper()
	ctx := context.Background()
	ref := push(t, string(regtest.WithAPI))
	now := time.Now()
	root0 := certtest.Root("root", certtest.Valid(now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)))
	key := certtest.Key("P-256")
	if err := judge.Sign(ctx, ref, key, root0.Chain(root0.Leaf(key.Public(), "leaf")), judge.SignOptions{}); err != nil {
		t.Fatal(err)
	}
	listed, err := judge.Signatures(ctx, ref)
	if err != nil || len(listed) != 1 {
		t.Fatal(listed, err)
	}
	mediaType, b, err := judge.Envelope(ctx, ref, listed[0])
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Parse(mediaType, b)
	if err != nil {
		t.Fatal(err)
	}
	until := now.AddDate(0, 0, 10)
	if !lasts {
		until = now.AddDate(0, 0, -10)
	}
	old := root0.Chain(root0.Leaf(key.Public(), "leaf", certtest.Valid(now.AddDate(0, -2, 0), until)))
	if e, err = e.WithChain(old); err != nil {
		t.Fatal(err)
	}
	content := e.Unverified()
	if tsa != nil {
		if e, err = e.WithTimestamp(tsa.Token(content.Signature, now.AddDate(0, -1, 0))); err != nil {
			t.Fatal(err)
		}
	}
	d := content.Payload
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, judge.Signature{MediaType: mediaType, Envelope: e.Bytes()}, root0.Certificate
}

// Each setting is the one it says.
func TestSettings(t *testing.T) {
	t.Parallel()
	tsa := tsatest.New(tsatest.Options{})
	revocable := tsatest.New(tsatest.Options{Edits: []certtest.Edit{func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"http://crl.example/tsa.crl"}
	}}})
	for _, row := range []struct {
		name  string
		by    *tsatest.Authority
		lasts bool
		roots []*x509.Certificate
		want  map[judge.Setting]string // what the error says; "": accepted
	}{
		{"expired, stamped", tsa, false, tsa.Roots(), map[judge.Setting]string{judge.NoTSARoot: "validity period"}},
		{"expired, not stamped", nil, false, tsa.Roots(), map[judge.Setting]string{
			judge.NoTSARoot: "validity period", judge.Always: "no timestamp countersignature", judge.AfterCertExpiry: "no timestamp countersignature"}},
		{"valid, stamped", tsa, true, tsa.Roots(), nil},
		{"valid, not stamped", nil, true, tsa.Roots(), map[judge.Setting]string{judge.Always: "no timestamp countersignature"}},
		{"valid, stamped by a stranger", tsa, true, certtestRoots("stranger"), map[judge.Setting]string{judge.Always: "unknown authority"}},
		{"expired, no roots", tsa, false, nil, map[judge.Setting]string{judge.NoTSARoot: "validity period", judge.Always: "cannot be empty", judge.AfterCertExpiry: "cannot be empty"}},
		{"an intermediate is no root", tsa, false, []*x509.Certificate{tsa.CA.Certificate},
			map[judge.Setting]string{judge.NoTSARoot: "validity period", judge.Always: "no root of timestamp", judge.AfterCertExpiry: "no root of timestamp"}},
		// The network is not asked, and that is no excuse.
		{"the authority's status is not known", revocable, true, revocable.Roots(), map[judge.Setting]string{judge.Always: "revocation status is unknown"}},
	} {
		subject, sig, root := stamped(t, row.by, row.lasts)
		for _, s := range settings {
			err := judge.VerifyEnvelopes(t.Context(), subject, []judge.Signature{sig}, s, []*x509.Certificate{root}, row.roots)
			if want := row.want[s]; (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: %v, want %q", row.name, s, err, want)
			}
		}
	}
	subject, sig, root := stamped(t, tsa, true)
	roots := []*x509.Certificate{root}
	if err := judge.VerifyEnvelopes(t.Context(), subject, []judge.Signature{sig}, "sometimes", roots, tsa.Roots()); err == nil {
		t.Error("an unknown setting: accepted")
	}
	if err := judge.VerifyEnvelopes(t.Context(), subject, nil, judge.NoTSARoot, roots, nil); err == nil {
		t.Error("no signature: accepted")
	}
	broken := judge.Signature{MediaType: sig.MediaType, Envelope: []byte(`{}`)}
	if err := judge.VerifyEnvelopes(t.Context(), subject, []judge.Signature{broken, sig}, judge.Always, roots, tsa.Roots()); err != nil {
		t.Errorf("behind a broken one: %v", err)
	}
	subject.Size++
	if err := judge.VerifyEnvelopes(t.Context(), subject, []judge.Signature{sig}, judge.NoTSARoot, roots, nil); err == nil {
		t.Error("of another artifact: accepted")
	}
}

func certtestRoots(cn string) []*x509.Certificate {
	return []*x509.Certificate{certtest.Root(cn, certtest.Valid(time.Now().AddDate(-10, 0, 0), time.Now().AddDate(10, 0, 0))).Certificate}
}

// In a registry one signature is asked about, or all.
func TestVerifyAt(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ref := push(t, string(regtest.WithAPI))
	key, chain := certtest.ChainOf(2, "P-256")
	stranger, strange := certtest.ChainOf(2, "P-256")
	for _, by := range []error{
		judge.Sign(ctx, ref, stranger, strange, judge.SignOptions{}),
		judge.Sign(ctx, ref, key, chain, judge.SignOptions{Format: "cose"}),
	} {
		if by != nil {
			t.Fatal(by)
		}
	}
	listed, err := judge.Signatures(ctx, ref)
	if err != nil || len(listed) != 2 {
		t.Fatal(listed, err)
	}
	tsaRoots := certtestRoots("tsa")
	accepted := map[string]int{}
	for which, digests := range map[string][]digest.Digest{"one": listed, "all": {""}, "none": {digest.FromString("none")}} {
		for _, d := range digests {
			for _, s := range settings {
				if judge.VerifyAt(ctx, ref, d, s, chain[1:], tsaRoots) == nil {
					accepted[string(s)+" "+which]++
				}
			}
		}
	}
	want := map[string]int{"no-tsa-root one": 1, "tsa-after-cert-expiry one": 1, "no-tsa-root all": 1, "tsa-after-cert-expiry all": 1}
	if diff := cmp.Diff(want, accepted); diff != "" {
		t.Error(diff)
	}
}
