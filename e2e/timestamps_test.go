package e2e

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestTimestampsJudged: notation-go accepts what imprint countersigned, at signing and afterwards, in both envelopes, at every setting; what
// has no countersignature it refuses at "always"; and one that its trust store does not know it refuses.
func TestTimestampsJudged(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := regtest.New(t, kind)
			tsa := tsatest.New(tsatest.Options{Accuracy: time.Second})
			url := tsa.Start()
			t.Cleanup(tsa.Stop)
			stranger := tsatest.New(tsatest.Options{Name: "stranger"})
			p := newPerson(t)
			root := certtest.Root("root")
			ca := root.Intermediate("CA")
			flags := []string{"--timestamp-url", url, "--timestamp-roots", p.file("tsa.pem", certtest.PEM(tsa.Roots()...)), "--allow-private", "-o", "json"}
			for _, algorithm := range []string{"P-256", "P-384", "RSA-2048"} {
				key := certtest.Key(algorithm)
				file := p.file(algorithm+".key", certtest.KeyPEM(key))
				chain := p.file(algorithm+".pem", certtest.PEM(ca.Chain(ca.Leaf(key.Public(), "release"))...))
				for _, format := range []string{"jws", "cose"} {
					judged := func(ref string, d digest.Digest, s judge.Setting, tsa *tsatest.Authority) error {
						return judge.VerifyAt(t.Context(), ref, d, s, []*x509.Certificate{root.Certificate}, tsa.Roots())
					}
					accepted := func(what, ref string, d digest.Digest) {
						t.Helper()
						if d == "" {
							t.Errorf("%s, %s, %s: no signature is named", what, algorithm, format)
						}
						for _, s := range []judge.Setting{judge.NoTSARoot, judge.Always, judge.AfterCertExpiry} {
							if err := judged(ref, d, s, tsa); err != nil {
								t.Errorf("%s, %s, %s, %s: notation refuses it: %v", what, algorithm, format, s, err)
							}
						}
						if judged(ref, d, judge.Always, stranger) == nil {
							t.Errorf("%s, %s: notation accepts it by another authority's root", what, format)
						}
					}
					sign := func(ref string, more ...string) []string {
						return append([]string{"sign", ref, "--key", "file:" + file, "--chain", chain, "--signature-format", format}, more...)
					}
					repo := server.Host + "/app/" + format
					at := repo + ":" + algorithm + "-signed"
					if err := image(at).push(repo, algorithm+"-signed"); err != nil {
						t.Fatal(err)
					}
					o := p.want(t, 0, "", sign(at, flags...)...)
					accepted("at signing", at, digest.Digest(o.field(t, "signatures.0.signature")))

					later := repo + ":" + algorithm + "-later"
					if err := image(later).push(repo, algorithm+"-later"); err != nil {
						t.Fatal(err)
					}
					o = p.want(t, 0, "", sign(later, "-o", "json")...)
					bare := digest.Digest(o.field(t, "signatures.0.signature"))
					if judged(later, bare, judge.Always, tsa) == nil || judged(later, bare, judge.AfterCertExpiry, tsa) != nil {
						t.Error("notation judges what has no countersignature otherwise than the plan says")
					}
					o = p.want(t, 0, "", append([]string{"timestamp", later}, flags...)...)
					accepted("afterwards", later, digest.Digest(o.field(t, "signatures.0.new")))
					// Both are there: whatever the setting, one of them is accepted.
					if err := judged(later, "", judge.Always, tsa); err != nil {
						t.Errorf("beside the old one, %s: notation refuses the artifact: %v", format, err)
					}
					p.want(t, 0, "", append([]string{"timestamp", later, "--replace"}, flags...)...)
					all, err := judge.Signatures(t.Context(), later)
					if err != nil || len(all) != 1 {
						t.Fatalf("%d signatures are left, %v", len(all), err)
					}
					accepted("replaced", later, all[0])
				}
			}
		})
	}
}
