package e2e

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// The tests of the scenarios carry the row's id in their names: docs/scenarios.md is made of them.

// A scene is a registry, and a person who holds the keys of several parties and each party's root certificate.
type scene struct {
	*person
	*regtest.Server
	t       *testing.T
	parties map[string]*party
	written int // policies
}

// A party signs with a key of its own under a root of its own: NAME.key, NAME-chain.pem and NAME.pem in the person's folder.
type party struct {
	root, ca *certtest.Authority
	key      crypto.Signer
	leaf     *x509.Certificate
}

func newScene(t *testing.T, parties ...string) *scene {
	t.Helper()
	return newSceneAt(t, regtest.WithAPI, parties...)
}

func newSceneAt(t *testing.T, kind regtest.Kind, parties ...string) *scene {
	t.Helper()
	s := &scene{person: newPerson(t), Server: regtest.New(t, kind), t: t, parties: map[string]*party{}}
	for _, name := range parties {
		s.joins(name)
	}
	return s
}

// joins makes a party.
func (s *scene) joins(name string, leaf ...certtest.Edit) *party {
	root := certtest.Root(name + " root")
	return s.adds(name, root, root.Intermediate(name+" CA"), certtest.Key("P-256"), leaf...)
}

// adds makes a party of keys and authorities that are there; the leaf's edits come last.
func (s *scene) adds(name string, root, ca *certtest.Authority, key crypto.Signer, leaf ...certtest.Edit) *party {
	p := &party{root: root, ca: ca, key: key, leaf: ca.Leaf(key.Public(), name, leaf...)}
	s.parties[name] = p
	s.file(name+".key", certtest.KeyPEM(p.key))
	s.file(name+"-chain.pem", certtest.PEM(p.ca.Chain(p.leaf)...))
	s.file(name+".pem", certtest.PEM(p.root.Certificate))
	return p
}

// named is a leaf whose organization and common name are given.
func named(organization, cn string) certtest.Edit {
	return certtest.Subject(pkix.Name{Country: []string{"DE"}, Province: []string{"BE"}, Organization: []string{organization}, CommonName: cn})
}

func (s *scene) at(name string) string { return filepath.Join(s.dir, name) }

// image pushes an image to REPO:TAG of the scene's registry and returns its reference there, by tag and by digest.
func (s *scene) image(name string) (tagged, pinned string) {
	s.t.Helper()
	return s.push(name, image(name))
}

func (s *scene) push(name string, a artifact) (tagged, pinned string) {
	s.t.Helper()
	path, tag, _ := strings.Cut(name, ":")
	ref := pushed(s.t, a, s.Host+"/"+path, tag)
	return ref, s.Host + "/" + path + "@" + a.descriptor.Digest.String()
}

// by is the flags that sign as a party.
func (s *scene) by(name string) []string {
	return []string{"--key", "file:" + s.at(name+".key"), "--chain", s.at(name + "-chain.pem")}
}

// does wants a run to succeed.
func (s *scene) does(args ...string) outcome {
	s.t.Helper()
	return s.want(s.t, 0, "", args...)
}

// sign has a party sign a reference.
func (s *scene) sign(name, ref string, more ...string) outcome {
	s.t.Helper()
	return s.does(slices.Concat([]string{"sign", ref, "-q"}, s.by(name), more)...)
}

// policy writes a policy that holds every party's root by its name, of several with one root the first's, and then what text says.
func (s *scene) policy(text string) string {
	s.t.Helper()
	var b strings.Builder
	b.WriteString("version: 1\nroots:\n")
	roots := map[*certtest.Authority]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.parties)) {
		if roots[s.parties[name].root] {
			continue
		}
		roots[s.parties[name].root] = true
		fmt.Fprintf(&b, "  %s: %s.pem\n", name, name)
	}
	return s.rules(b.String() + text)
}

// rules writes a whole policy.
func (s *scene) rules(text string) string {
	s.written++
	return s.file(fmt.Sprintf("policy-%d.yaml", s.written), []byte(text))
}

// accepts wants imprint verify to accept a reference.
func (s *scene) accepts(ref string, how ...string) outcome {
	s.t.Helper()
	o := s.want(s.t, 0, "", slices.Concat([]string{"verify", ref}, how)...)
	if o.code == 0 && o.field(s.t, "verdict") != "accepted" {
		s.t.Errorf("verify %s %q: verdict %s\n%s", ref, how, o.field(s.t, "verdict"), o.stdout)
	}
	return o
}

// rejects wants imprint verify to reject a reference for the reason.
func (s *scene) rejects(reason, ref string, how ...string) outcome {
	s.t.Helper()
	o := s.want(s.t, 1, "", slices.Concat([]string{"verify", ref}, how)...)
	if o.code == 1 && o.field(s.t, "reason") != reason {
		s.t.Errorf("verify %s %q: reason %s, want %s\n%s", ref, how, o.field(s.t, "reason"), reason, o.stdout)
	}
	return o
}

// asFor judges a reference as if it were elsewhere.
func asFor(policy, as string) []string { return []string{"--policy", policy, "--as", as} }

// envelopes returns the envelopes of all signatures of a reference, sorted, so that two places compare.
func (s *scene) envelopes(ref string) []string {
	s.t.Helper()
	list, err := judge.Signatures(s.t.Context(), ref)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		_, b, err := judge.Envelope(s.t.Context(), ref, d)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, string(b))
	}
	slices.Sort(out)
	return out
}

// digestAt is what a tag names now, asked without imprint.
func (s *scene) digestAt(ref string) digest.Digest {
	s.t.Helper()
	repo, at := opens(s.t, ref)
	m, err := repo.Resolve(s.t.Context(), at)
	if err != nil {
		s.t.Fatal(err)
	}
	return m.Descriptor.Digest
}

// tags lists a repository's tags.
func (s *scene) tags(path string) []string {
	s.t.Helper()
	repo, _ := opens(s.t, s.Host+"/"+path+":any")
	var tags []string
	for tag, err := range repo.Tags(s.t.Context()) {
		if err != nil {
			s.t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags
}

// writes counts what the scene's registry was told to change.
func (s *scene) writes() int { return s.Count(regtest.Request.Write) }

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// alone runs imprint in a process without any network, where the system grants such a thing, and wants that it succeeds.
// Everywhere, no proxy may be asked: all that goes to another machine would go there.
func (s *scene) alone(args ...string) outcome {
	s.t.Helper()
	path, err := exec.LookPath("imprint") // this test binary, by another name
	if err != nil {
		s.t.Fatal(err)
	}
	proxy := regtest.Serve(s.t, http.NotFoundHandler())
	run := func(prepare func(*exec.Cmd)) (outcome, error) {
		c := exec.CommandContext(s.t.Context(), path, append(slices.Clone(args), "-o", "json")...)
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
			c.Env = append(c.Env, name+"=http://"+proxy.Host)
		}
		c.Env = append(append(c.Env, s.env...), "GORACE="+quickExit)
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		prepare(c)
		err := c.Run()
		return outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}, err
	}
	o, err := run(unplugged)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC) {
		s.t.Logf("no network of its own: %v", err)
		o, err = run(func(*exec.Cmd) {})
	}
	if err != nil {
		s.t.Errorf("imprint %s, alone: %v\n%s%s", strings.Join(args, " "), err, o.stdout, o.stderr)
	}
	if n := proxy.Count(nil); n != 0 {
		s.t.Errorf("imprint %s: %d requests went out", strings.Join(args, " "), n)
	}
	return o
}
