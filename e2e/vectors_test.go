package e2e

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// A vector is a signature that the notation CLI wrote (testdata/notation/vectors.json says how), by its own keys or by a plugin that
// returns envelopes of the signing authority scheme. Its certificates hold until 2055, so it can be judged by today's clock.
type vector struct {
	Name      string
	Timestamp bool
	Authority bool `json:"signingAuthority"`
	MediaType string
}

func vectorFile(t testing.TB, name ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"testdata", "notation"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vectorCertificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	p, _ := pem.Decode(vectorFile(t, name))
	c, err := x509.ParseCertificate(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func vectorAuthority(t testing.TB, name string) *certtest.Authority {
	t.Helper()
	p, _ := pem.Decode(vectorFile(t, name+".key.pem"))
	key, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &certtest.Authority{Certificate: vectorCertificate(t, name+".pem"), Key: key.(crypto.Signer)}
}

// vectors returns those of notation, and when they were made.
func vectors(t testing.TB) ([]vector, time.Time) {
	t.Helper()
	var all struct {
		Made    time.Time
		Vectors []vector
	}
	if err := json.Unmarshal(vectorFile(t, "vectors.json"), &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Vectors) < 9 {
		t.Fatalf("%d vectors", len(all.Vectors))
	}
	return all.Vectors, all.Made
}

// push puts the vector into a registry, byte for byte, and returns its reference by digest.
func (v vector) push(t testing.TB, server *regtest.Server) (ref string, signature digest.Digest) {
	t.Helper()
	text := func(mediaType string, b []byte) blob { return blob{describe(mediaType, b), b} }
	whole := func(name string, blobs ...blob) artifact {
		b := vectorFile(t, v.Name, name)
		return artifact{descriptor: describe(ocispec.MediaTypeImageManifest, b), manifest: b, blobs: append(blobs, text(ocispec.MediaTypeEmptyJSON, []byte("{}")))}
	}
	subject := whole("subject.json", text("text/plain", vectorFile(t, v.Name, "layer.txt")))
	sig := whole("manifest.json", text(v.MediaType, vectorFile(t, v.Name, "envelope")))
	subject.referrers = []artifact{sig}
	if err := subject.push(server.Host+"/"+v.Name, ""); err != nil {
		t.Fatal(err)
	}
	return server.Host + "/" + v.Name + "@" + subject.descriptor.Digest.String(), sig.descriptor.Digest
}

// Signatures of notation's, by its own keys and by a plugin, are rechained, or not, as the three traps have it, and whatever the plan
// says of each setting, notation says too.
func TestVectorsRechained(t *testing.T) {
	t.Parallel()
	all, made := vectors(t)
	root, tsaRoot := vectorAuthority(t, "root"), vectorCertificate(t, "tsa-root.pem")
	ca := vectorAuthority(t, "ca")
	end := time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)
	renewed := func(from time.Time) []byte {
		return certtest.PEM(root.IntermediateWith(ca.Key, "Vector CA", certtest.Valid(from, end)).Certificate)
	}
	backdated, late := renewed(made.AddDate(0, -6, 0)), renewed(made.Add(time.Second))
	for _, kind := range regtest.Kinds {
		server := regtest.New(t, kind)
		for _, v := range all {
			if v.Name == "jws-self-signed" {
				continue // no authority can renew it: TestVectorSelfSigned
			}
			t.Run(string(kind)+"/"+v.Name, func(t *testing.T) {
				t.Parallel()
				ref, old := v.push(t, server)
				p := newPerson(t)
				at := func(setting judge.Setting, signature digest.Digest) bool {
					return judge.VerifyAt(t.Context(), ref, signature, setting, []*x509.Certificate{root.Certificate}, []*x509.Certificate{tsaRoot}) == nil
				}
				if !at(judge.NoTSARoot, old) || v.Timestamp && !at(judge.Always, old) {
					t.Fatal("notation does not accept its own signature")
				}
				trap := v.Timestamp || v.Authority
				if trap {
					p.want(t, 3, "would-break-timestamp", "rechain", ref, "--chain", p.file("late.pem", late), "--replace")
				}
				if v.Authority { // no other timestamp lifts that: the signed time is what counts
					p.want(t, 3, "would-break-timestamp", "rechain", ref, "--chain", p.file("late.pem", late), "--replace",
						"--timestamp-url", "http://127.0.0.1:1", "--timestamp-roots", p.file("tsa.pem", vectorFile(t, "tsa-root.pem")), "--allow-private")
				}
				for i, chain := range [][]byte{late, backdated} {
					o := p.want(t, 0, "", "rechain", ref, "--chain", p.file("new.pem", chain), "--allow-shorter", "-o", "json")
					fresh := digest.Digest(o.field(t, "signatures.0.new"))
					for _, setting := range []judge.Setting{judge.NoTSARoot, judge.Always, judge.AfterCertExpiry} {
						said := map[string]bool{}
						for n := range 3 {
							at := "signatures.0.verifiers." + string(rune('0'+n)) + "."
							said[o.field(t, at+"setting")] = o.field(t, at+"new") == "true"
						}
						if got := at(setting, fresh); got != said[string(setting)] {
							t.Errorf("chain %d, %s: the plan says %t, notation %t", i, setting, said[string(setting)], got)
						}
						if both := at(setting, ""); both != (at(setting, old) || at(setting, fresh)) || setting == judge.NoTSARoot && !both {
							t.Errorf("chain %d, %s: both side by side: %t", i, setting, both)
						}
					}
					breaks := trap && i == 0
					if v.Authority && at(judge.NoTSARoot, fresh) == breaks || v.Timestamp && at(judge.Always, fresh) == breaks {
						t.Errorf("chain %d: the trap is %t", i, breaks)
					}
				}
			})
		}
	}
}

// A self-signed leaf gets a chain: another root, and the same name. Verifiers have to trust that root first.
func TestVectorSelfSigned(t *testing.T) {
	t.Parallel()
	server := regtest.New(t, regtest.WithAPI)
	v := vector{Name: "jws-self-signed", MediaType: jwsType}
	ref, old := v.push(t, server)
	_, b, err := judge.Envelope(t.Context(), ref, old)
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Header struct{ X5C [][]byte } }
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(e.Header.X5C[0])
	if err != nil {
		t.Fatal(err)
	}
	root, ca := vectorAuthority(t, "root"), vectorAuthority(t, "ca")
	ca.Parent = root
	long := certtest.Valid(leaf.NotBefore, time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC))
	chain := ca.Chain(ca.Leaf(leaf.PublicKey, "vector self", long))
	p := newPerson(t)
	o := p.want(t, 0, "", "rechain", ref, "--chain", p.file("new.pem", certtest.PEM(chain...)), "--allow-shorter", "-o", "json")
	fresh := digest.Digest(o.field(t, "signatures.0.new"))
	if o.field(t, "signatures.0.anchorsAt") == "" || o.field(t, "signatures.0.identityChanged") != "false" {
		t.Errorf("said %s", o.stdout)
	}
	if err := judge.VerifyOnly(t.Context(), ref, fresh, root.Certificate); err != nil {
		t.Errorf("below its new root: %v", err)
	}
	if err := judge.VerifyOnly(t.Context(), ref, fresh, leaf); err == nil {
		t.Error("the old pin accepts the new chain, so the warning is wrong")
	}
}
