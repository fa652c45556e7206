package e2e

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
)

// Whoever may push can take a signature, whose key is public, and put a chain of his own around it: for the same key, of
// the same names, under a root of his own, ending in 2099. It is the same signature by its core id, and it holds longer.
// It must never keep the genuine one away, whichever side it is on.

// rewrapped is a signature in several chains: what is signed, and the signature, are the same in each.
func rewrapped(mediaType string, key crypto.Signer, subject ocispec.Descriptor, chains ...[]*x509.Certificate) [][]byte {
	var out [][]byte
	if mediaType == jwsType {
		s := newJWS(key, chains[0], subject).seal()
		for _, chain := range chains {
			var x5c []string
			for _, c := range chain {
				x5c = append(x5c, base64.StdEncoding.EncodeToString(c.Raw))
			}
			list, _ := json.Marshal(x5c)
			s.header = `{"x5c":` + string(list) + `}`
			out = append(out, s.bytes())
		}
		return out
	}
	p := newCOSE(key, chains[0], subject).seal()
	for _, chain := range chains {
		var ders [][]byte
		for _, c := range chain {
			ders = append(ders, c.Raw)
		}
		p.unprotected = cborMap([]pair{at(33, ders)})
		out = append(out, p.bytes())
	}
	return out
}

// subjects are all manifests of an artifact that are signed: itself, its platform images, what describes them.
func (a artifact) subjects() []ocispec.Descriptor {
	all := []ocispec.Descriptor{a.descriptor}
	for _, c := range append(a.children, a.referrers...) {
		all = append(all, c.subjects()...)
	}
	return all
}

func TestSupersede(t *testing.T) {
	t.Parallel()
	until := func(year int) certtest.Edit {
		return certtest.Valid(time.Now().Add(-time.Hour), time.Date(year, 12, 31, 0, 0, 0, 0, time.UTC))
	}
	ends := time.Now().Year() + 1
	key := certtest.Key("P-256")
	root := certtest.Root("release root", until(2098))
	ca := root.Intermediate("release CA", until(ends+1))
	genuine := ca.Chain(ca.Leaf(key.Public(), "release", until(ends)))
	later := root.Intermediate("release CA", until(2097))
	renewed := later.Chain(later.Leaf(key.Public(), "release", until(ends+2)))

	theirs := certtest.Root("release root", until(2099))
	theirCA := theirs.Intermediate("release CA", until(2099))
	forged := theirCA.Chain(theirCA.Leaf(key.Public(), "release", until(2099)))
	attacks := map[string][]*x509.Certificate{
		"his own root":                                 forged,
		"his own root, the genuine one after it":       append(append([]*x509.Certificate{}, forged...), root.Certificate),
		"his own intermediate below the genuine root":  {forged[0], forged[1], root.Certificate},
		"his own leaf below the genuine intermediate":  {forged[0], ca.Certificate, root.Certificate},
		"his own root between leaf and genuine root":   {forged[0], theirs.Certificate, root.Certificate},
		"a certificate that he signed for himself":     {certtest.SelfSigned(key, "release", until(2099))},
		"his own root, without his own intermediate":   {theirs.Leaf(key.Public(), "release", until(2099)), theirs.Certificate},
		"a leaf of another name below his own root":    theirCA.Chain(theirCA.Leaf(key.Public(), "release 2", until(2099))),
		"the genuine chain, his own root after it":     append(append([]*x509.Certificate{}, genuine...), theirs.Certificate),
		"his own leaf, the genuine one's chain below":  append([]*x509.Certificate{forged[0]}, genuine...),
		"the genuine root alone":                       {root.Certificate},
		"his own chain, the other way round":           {forged[2], forged[1], forged[0]},
		"his own leaf, the genuine root twice":         {forged[0], root.Certificate, root.Certificate},
		"the genuine intermediate, taken for the leaf": {ca.Certificate, root.Certificate},
	}
	f := newFake(t)
	old := newFake(t)
	old.noAPI = true

	// release puts an index with signatures of all that is in it into a repository, each in the chains given.
	release := func(t *testing.T, a artifact, sign func(d ocispec.Descriptor) [][]byte, repo, mediaType string, which ...int) map[digest.Digest][]digest.Digest {
		f.putArtifact(repo, "v1", a)
		signed := map[digest.Digest][]digest.Digest{}
		for _, d := range a.subjects() {
			envelopes := sign(d)
			for _, i := range which {
				signed[d.Digest] = append(signed[d.Digest], f.attach(repo, d, mediaType, envelopes[i]).Digest)
			}
		}
		return signed
	}
	// remembered makes each signature once: all repositories have the same.
	remembered := func(mediaType string, chains ...[]*x509.Certificate) func(d ocispec.Descriptor) [][]byte {
		made := map[digest.Digest][][]byte{}
		return func(d ocispec.Descriptor) [][]byte {
			if made[d.Digest] == nil {
				made[d.Digest] = rewrapped(mediaType, key, d, chains...)
			}
			return made[d.Digest]
		}
	}
	run := func(name string, chain []*x509.Certificate, mediaType, side, kind string, a artifact) {
		t.Run(strings.Join([]string{name, mediaType[len("application/"):], "in the " + side, kind}, ", "), func(t *testing.T) {
			t.Parallel()
			p := newPerson(t)
			anchor := p.file("root.pem", certtest.PEM(root.Certificate))
			d := newDesk(t, f, t.Name()) // for a name of its own
			sign := remembered(mediaType, genuine, chain)
			which := []int{0}
			if side != "destination" {
				which = []int{1, 0}
			}
			signed := release(t, a, sign, d.repo+"-good", mediaType, which...)
			good := f.Host + "/" + d.repo + "-good:v1"
			to := map[string]string{"registry": f.Host + "/" + d.repo + "-to", "tag schema": old.Host + "/" + d.repo + "-to", "layout": "oci:" + filepath.Join(p.dir, "to")}[kind]
			if side != "source" {
				release(t, a, sign, d.repo+"-evil", mediaType, 1)
				p.want(t, 0, "", "copy", f.Host+"/"+d.repo+"-evil:v1", to+":v1")
				p.want(t, 1, "", "verify", to+":v1", "--root", anchor)
			}
			o := p.want(t, 0, "", "copy", good, to+":v1")
			if strings.Contains(o.stdout, "superseded") {
				t.Errorf("something was left behind: %s", o.stdout)
			}
			// What is there now, seen from a third place.
			p.want(t, 0, "", "copy", to+":v1", f.Host+"/"+d.repo+"-back:v1")
			for _, s := range a.subjects() {
				have := map[digest.Digest]bool{}
				for _, r := range f.referrers(d.repo+"-back", s.Digest) {
					have[r.Digest] = true
				}
				for _, digest := range signed[s.Digest] {
					if !have[digest] || !f.has(d.repo+"-back", digest) {
						t.Errorf("signature %s of %s did not arrive", digest, s.Digest)
					}
				}
				p.want(t, 0, "", "verify", to+"@"+s.Digest.String(), "--root", anchor)
				if err := judge.VerifyOnly(t.Context(), f.Host+"/"+d.repo+"-back@"+s.Digest.String(), signed[s.Digest][len(which)-1], root.Certificate); err != nil {
					t.Errorf("notation-go rejects the genuine signature of %s: %v", s.Digest, err)
				}
			}
			p.want(t, 0, "", "verify", to+":v1", "--root", anchor)

			// With --only-accepted the attacker's stays behind, at every level.
			p.want(t, 0, "", "copy", good, f.Host+"/"+d.repo+"-only:v1", "--root", anchor, "--only-accepted")
			for _, s := range a.subjects() {
				n := 0
				for _, r := range f.referrers(d.repo+"-only", s.Digest) {
					if r.ArtifactType != signatureType {
						continue
					}
					if n++; r.Digest != signed[s.Digest][len(which)-1] {
						t.Errorf("%s of %s went along", r.Digest, s.Digest)
					}
				}
				if n != 1 {
					t.Errorf("%d signatures of %s went along", n, s.Digest)
				}
			}
		})
	}
	for _, mediaType := range []string{jwsType, coseType} {
		for _, side := range []string{"source", "destination", "source and destination"} {
			for _, kind := range []string{"registry", "tag schema", "layout"} {
				if kind != "registry" && side != "source and destination" {
					continue // that is both of the others
				}
				run("his own root", forged, mediaType, side, kind, index("superseded "+mediaType+side+kind))
			}
		}
		for name, chain := range attacks {
			run(name, chain, mediaType, "source and destination", "registry", image(name+mediaType))
		}
	}

	// The genuine renewal does supersede: else nothing above would prove anything.
	for _, mediaType := range []string{jwsType, coseType} {
		t.Run("the genuine renewal, "+mediaType[len("application/"):], func(t *testing.T) {
			t.Parallel()
			p := newPerson(t)
			d := newDesk(t, f, t.Name())
			a := index("renewed " + mediaType)
			sign := remembered(mediaType, genuine, renewed)
			stale := release(t, a, sign, d.repo+"-stale", mediaType, 0)
			release(t, a, sign, d.repo+"-renewed", mediaType, 1)
			to := f.Host + "/" + d.repo + "-to:v1"
			p.want(t, 0, "", "copy", f.Host+"/"+d.repo+"-renewed:v1", to)
			o := p.want(t, 0, "superseded", "copy", f.Host+"/"+d.repo+"-stale:v1", to)
			for _, s := range a.subjects() {
				if got := o.object(t, stale[s.Digest][0]); got != "superseded superseded" || f.has(d.repo+"-to", stale[s.Digest][0]) {
					t.Errorf("the stale signature of %s: %q", s.Digest, got)
				}
			}
		})
	}
}
