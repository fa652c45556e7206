package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/kms/kmstest/awstest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// layout puts an image into a layout of the scene's folder, under a tag.
func (s *scene) layout(name, tag string, a artifact) string {
	s.t.Helper()
	if err := a.push("oci:"+s.at(name), tag); err != nil {
		s.t.Fatal(err)
	}
	return "oci:" + s.at(name) + ":" + tag
}

// S03 and R06: signed where there is no network at all, pushed later, verified there; a layout needs no registry ever.
func TestS03R06SigningIsOffline(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	local := s.layout("build", "1.0", image("offline"))
	s.alone(append([]string{"sign", local}, s.by("mine")...)...)
	if o := s.alone("verify", local, "--root", s.at("mine.pem")); o.field(t, "verdict") != "accepted" {
		t.Errorf("verdict %s", o.stdout)
	}
	if n := s.Count(nil); n != 0 {
		t.Fatalf("the registry was asked %d times", n)
	}
	s.does("copy", local, s.Host+"/later/app")
	s.accepts(s.Host+"/later/app:1.0", "--root", s.at("mine.pem"))
	if err := judge.Verify(t.Context(), s.Host+"/later/app:1.0", s.parties["mine"].root.Certificate); err != nil {
		t.Errorf("notation: %v", err)
	}
}

func TestS06SigningKnowsNoPolicy(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	now := s.now()
	s.now = func() time.Time { return now }
	var signed []map[string][]byte
	for i, policy := range []string{"", s.policy("scopes:\n  \"*\": {reject: true}\n"), s.rules("no: policy\n"), s.at("missing.yaml")} {
		repo := s.Host + "/app" + strings.Repeat("x", i)
		ref := pushed(t, image("the same"), repo, "1.0")
		if policy != "" {
			s.env = append(s.env, "IMPRINT_POLICY="+policy)
		}
		s.sign("mine", ref)
		signed = append(signed, apart(t, jwsType, []byte(s.envelopes(ref)[0])))
		for _, part := range []string{"protected", "payload"} {
			if string(signed[i][part]) != string(signed[0][part]) {
				t.Errorf("with the policy %q the %s is another", policy, part)
			}
		}
	}
	ref, _ := s.image("other:1.0")
	s.want(t, 3, "", slices.Concat([]string{"sign", ref, "--policy", s.at("policy-1.yaml")}, s.by("mine"))...)
}

// S07, S11, R30: what is needed is in the signature. Leaf, intermediate and root are in each envelope; where there is
// nothing but the layout and a root certificate, integrity, source and expiry are told.
func TestS07S11R30SignaturesNeedNothingElse(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	elsewhere := regtest.Serve(t, http.NotFoundHandler())
	mine := s.joins("mine", func(c *x509.Certificate) {
		c.IssuingCertificateURL = []string{"http://" + elsewhere.Host + "/ca.cer"}
		c.OCSPServer = []string{"http://" + elsewhere.Host + "/ocsp"}
		c.CRLDistributionPoints = []string{"http://" + elsewhere.Host + "/crl"}
	})
	for _, format := range []string{"jws", "cose"} {
		local := s.layout(format, "1.0", image(format))
		s.alone(slices.Concat([]string{"sign", local, "--expiry", "90d", "--signature-format", format}, s.by("mine"))...)
		o := s.alone("verify", local, "--root", s.at("mine.pem"))
		for path, want := range map[string]string{"verdict": "accepted", "signatures.0.identity": "C=DE, ST=BE, O=Acme, CN=mine", "signatures.0.chain.len": "3"} {
			if got := o.field(t, path); got != want {
				t.Errorf("%s: %s is %q, want %q", format, path, got, want)
			}
		}
		if o.field(t, "signatures.0.expiry") == "" {
			t.Errorf("%s: no expiry is told", format)
		}
		if o := s.alone("inspect", local); !strings.Contains(o.stdout, "CN=mine") {
			t.Errorf("%s: inspect does not tell who signed:\n%s", format, o.stdout)
		}

		// Where there are services that could be asked, nobody asks them.
		s.does("copy", local, s.Host+"/"+format)
		ref := s.Host + "/" + format + ":1.0"
		s.Reset()
		s.accepts(ref, "--root", s.at("mine.pem"), "--allow-private")
		if n := s.Count(nil); n > 4 {
			t.Errorf("%s: %d requests for one signature", format, n)
		}
		if format == "jws" {
			var e struct {
				Header struct {
					X5c []string `json:"x5c"`
				} `json:"header"`
			}
			if err := json.Unmarshal([]byte(s.envelopes(ref)[0]), &e); err != nil {
				t.Fatal(err)
			}
			for i, c := range mine.ca.Chain(mine.leaf) {
				if i >= len(e.Header.X5c) || e.Header.X5c[i] != base64.StdEncoding.EncodeToString(c.Raw) {
					t.Fatalf("certificate %d of %d is not in its place", i, len(e.Header.X5c))
				}
			}
		}
	}
	if n := elsewhere.Count(nil); n != 0 {
		t.Errorf("%d requests for what the signature holds", n)
	}
}

func TestS08KeysAreNotRepositories(t *testing.T) {
	t.Parallel()
	s := newScene(t, "one", "a", "b", "c")
	policy := s.policy("scopes:\n  one.example: [one]\n  many.example/a: [a]\n  many.example/b: [b]\n  many.example/c: [c]\n")
	for _, repo := range []string{"x", "y/z", "w"} {
		ref, _ := s.image(repo + ":1.0")
		s.sign("one", ref)
		s.accepts(ref, asFor(policy, "one.example/"+repo+":1.0")...)
	}
	ref, _ := s.image("shared:1.0")
	for _, who := range []string{"a", "b", "c"} {
		reason := "no-trusted-signature"
		if who == "a" {
			reason = "unsigned"
		}
		s.rejects(reason, ref, asFor(policy, "many.example/"+who+":1.0")...)
		s.sign(who, ref)
		s.accepts(ref, asFor(policy, "many.example/"+who+":1.0")...)
	}
}

// S16 and R12: a key in a key service and the same key in a file make signatures that nobody tells apart, and its
// private bytes are nowhere that this machine keeps.
func TestS16R12KeysStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	service := awstest.New(t)
	service.AddKey("release", s.parties["mine"].key)
	s.env = append(s.env, service.Environ()...)
	byService, _ := s.image("service:1.0")
	o := s.process(t, "sign", byService, "--key", "awskms:///alias/release", "--chain", s.at("mine-chain.pem"), "-o", "json")
	if o.code != 0 || service.Calls("Sign") != 1 {
		t.Fatalf("exit %d, %d calls\n%s", o.code, service.Calls("Sign"), o.stderr)
	}
	byFile, _ := s.image("file:1.0")
	s.sign("mine", byFile)
	for _, path := range []string{"verdict", "signatures.0.identity", "signatures.0.algorithm", "signatures.0.claims", "signatures.0.chain.len", "signatures.0.holdsUntil"} {
		one := s.accepts(byService, "--root", s.at("mine.pem")).field(t, path)
		if two := s.accepts(byFile, "--root", s.at("mine.pem")).field(t, path); one != two {
			t.Errorf("%s: %s by the service, %s by the file", path, one, two)
		}
	}
	// Once the file is gone, neither its bytes nor the secret that opens the service are anywhere below the person's folder.
	key := read(t, s.at("mine.key"))
	if err := os.Remove(s.at("mine.key")); err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{key, []byte(strings.Split(string(key), "\n")[1]), []byte(awstest.SecretAccessKey)}
	must(t, filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		for _, secret := range secrets {
			if strings.Contains(string(read(t, path)), string(secret)) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return nil
	}))
	for _, secret := range secrets {
		if strings.Contains(o.stdout+o.stderr, string(secret)) {
			t.Error("a secret was said")
		}
	}
}

func TestR01EveryKindOfArtifact(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	docker := "application/vnd.docker.distribution.manifest.v2+json"
	config := describe("application/vnd.docker.container.image.v1+json", []byte(`{"os":"linux"}`))
	schema2 := newArtifact(docker, map[string]any{"schemaVersion": 2, "mediaType": docker, "config": config, "layers": []any{}})
	schema2.blobs = []blob{{config, []byte(`{"os":"linux"}`)}}
	unknown := newArtifact(ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "artifactType": "application/vnd.nobody.knows+x",
		"config": map[string]any{"mediaType": ocispec.MediaTypeEmptyJSON, "digest": ocispec.DescriptorEmptyJSON.Digest, "size": 2}, "layers": []any{},
	})
	empty := ocispec.DescriptorEmptyJSON
	empty.Data = nil
	unknown.blobs = []blob{{empty, []byte("{}")}}
	list := image("with a bill of materials")
	for name, a := range map[string]artifact{
		"image": image("plain"), "index": index("both"), "sbom": sbom(list.descriptor, "packages"), "schema2": schema2, "unknown": unknown,
		"artifact-manifest": artifactManifest("one"),
	} {
		var ref, repo string
		if name == "artifact-manifest" { // registries have dropped that type: a fake one takes it
			f := newFake(t)
			f.putArtifact(name, "1.0", a)
			repo = f.Host + "/" + name
		} else {
			if name == "sbom" {
				must(t, list.push(s.Host+"/"+name, "subject"))
			}
			s.push(name+":1.0", a)
			repo = s.Host + "/" + name
		}
		ref = repo + ":1.0"
		o := s.sign("mine", ref)
		if got := o.field(t, "signatures.0.subject.mediaType"); got != a.descriptor.MediaType {
			t.Errorf("%s: signed as %s", name, got)
		}
		s.accepts(ref, "--root", s.at("mine.pem"))
		if err := judge.Verify(t.Context(), ref, s.parties["mine"].root.Certificate); err != nil {
			t.Errorf("%s: notation: %v", name, err)
		}
	}
}

func TestR02SeveralSigners(t *testing.T) {
	t.Parallel()
	s := newScene(t, "vendor", "hub", "acme")
	for _, order := range []string{"vendor hub acme", "acme hub vendor", "hub vendor acme"} {
		ref, _ := s.image(strings.ReplaceAll(order, " ", "-") + ":1.0")
		for i, who := range strings.Fields(order) {
			s.sign(who, ref)
			if got := s.accepts(ref, "--root", s.at(who+".pem")).field(t, "signatures.len"); got != string(rune('1'+i)) {
				t.Errorf("%s: %s signatures", order, got)
			}
		}
		for who := range s.parties {
			s.accepts(ref, "--root", s.at(who+".pem"))
		}
		if err := judge.Verify(t.Context(), ref, s.parties["hub"].root.Certificate); err != nil { // never the first and the last
			t.Errorf("%s: notation: %v", order, err)
		}
	}
}

func TestR05AChildAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	a := index("platforms")
	whole, _ := s.push("app:1.0", a)
	child := s.Host + "/app@" + a.children[0].descriptor.Digest.String()
	s.sign("mine", child)
	s.accepts(child, "--root", s.at("mine.pem"))
	s.rejects("unsigned", whole, "--root", s.at("mine.pem"))
	s.rejects("unsigned", s.Host+"/app@"+a.children[1].descriptor.Digest.String(), "--root", s.at("mine.pem"))
}

// A name without a registry is a mistake, and nobody is asked what it could have meant.
func TestR07NoNameMeansDockerHub(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	proxy := regtest.Serve(t, http.NotFoundHandler())
	s.env = append(s.env, "HTTPS_PROXY=http://"+proxy.Host, "HTTP_PROXY=http://"+proxy.Host)
	const name = "net-monitor:dev"
	for _, args := range [][]string{append([]string{"sign", name}, s.by("mine")...), {"verify", "team/" + name, "--root", s.at("mine.pem")}, {"copy", name, "oci:" + s.at("x")}} {
		o := s.process(t, args...)
		if o.code != 3 || !strings.Contains(o.stderr, "imprint never assumes docker.io") {
			t.Errorf("imprint %q: exit %d\n%s", args, o.code, o.stderr)
		}
	}
	if n := proxy.Count(nil); n != 0 {
		t.Errorf("%d requests went out", n)
	}
	// The proxy is where they would have gone.
	s.process(t, "inspect", "docker.io/library/net-monitor:dev", "--timeout", "5s")
	if proxy.Count(nil) == 0 {
		t.Error("nothing goes through the proxy: the count above proves nothing")
	}
}

// What is signed is the bytes that were pushed, however they are spaced.
func TestR08BytesAsPushed(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	a := image("odd")
	odd := strings.NewReplacer(`{"schemaVersion":2,`, "{\r\n\t \"schemaVersion\" :2 ,\n", `"layers":[`, "\"layers\"\n:  [").Replace(string(a.manifest)) + "\n\n"
	if odd == string(a.manifest)+"\n\n" {
		t.Fatal("the manifest is not odd")
	}
	a.manifest = []byte(odd)
	a.descriptor = describe(a.descriptor.MediaType, a.manifest)
	ref, _ := s.push("odd:1.0", a)
	if got := s.sign("mine", ref).field(t, "digest"); got != a.descriptor.Digest.String() {
		t.Errorf("signed %s, pushed %s", got, a.descriptor.Digest)
	}
	local := "oci:" + s.at("odd")
	s.does("copy", ref, local)
	s.does("copy", local+":1.0", s.Host+"/further")
	for _, at := range []string{ref, local + ":1.0", s.Host + "/further:1.0"} {
		if got := s.accepts(at, "--root", s.at("mine.pem")).field(t, "digest"); got != a.descriptor.Digest.String() {
			t.Errorf("%s is %s, pushed was %s", at, got, a.descriptor.Digest)
		}
	}
}

func TestR09R10TagsAndDigests(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	byDigest, pinned := s.image("app:1.0")
	s.sign("mine", pinned) // claims nothing
	byTag, pinnedTag := s.image("other:1.0")
	s.sign("mine", byTag, "--no-claims")
	root := []string{"--root", s.at("mine.pem")}
	for _, ref := range []string{byDigest, pinned, byTag, pinnedTag, byDigest + strings.TrimPrefix(pinned, s.Host+"/app")} {
		s.accepts(ref, root...)
	}
	// Retagged, and renamed.
	must(t, image("app:1.0").push(s.Host+"/app", "net-monitor-2"))
	s.accepts(s.Host+"/app:net-monitor-2", root...)
	s.does("copy", byDigest, s.Host+"/renamed/monitor", "--tag", "prod")
	s.accepts(s.Host+"/renamed/monitor:prod", root...)
	if n := len(s.envelopes(s.Host + "/renamed/monitor:prod")); n != 1 {
		t.Errorf("%d signatures after the renaming", n)
	}
}

// R17 and R23: old and new algorithm side by side; the policy's list, not a day, ends the old one.
func TestR17R23Algorithms(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	root := certtest.Root("root")
	ca := root.Intermediate("CA")
	s.adds("old", root, ca, certtest.Key("RSA-2048"))
	s.adds("new", root, ca, certtest.Key("P-256"))
	s.file("pin.pem", certtest.PEM(root.Certificate))
	policy := func(algorithms string) []string {
		return []string{"--policy", s.rules("version: 1\nroots:\n  r: pin.pem\nscopes:\n  \"*\": {trust: [r], algorithms: " + algorithms + "}\n")}
	}
	old, _ := s.image("old:1.0")
	s.sign("old", old)
	s.accepts(old, policy("[PS256, ES256]")...)
	s.rejects("algorithm-not-allowed", old, policy("[ES256]")...)
	s.sign("new", old)
	o := s.accepts(old, policy("[ES256]")...)
	if reasons := o.reasons(t); !slices.Contains(reasons, "algorithm-not-allowed") {
		t.Errorf("the old one is not said to be refused: %q", reasons)
	}
	s.accepts(old, policy("[PS256]")...) // those who know only the old one
	s.rejects("algorithm-not-allowed", old, policy("[ES384]")...)
	s.rejects("algorithm-not-allowed", old, "--root", s.at("pin.pem"), "--algorithms", "ES512")
}

// R25 and S09: nothing is trusted because it was seen: not a new subject under the same root, and not a new root.
func TestS09R25NothingIsTrustedBecauseSeen(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	mine := s.joins("mine", named("Acme", "release 2026"))
	s.adds("rotated", mine.root, mine.ca, certtest.Key("P-256"), named("Acme Labs", "release 2027"))
	s.joins("stranger")
	policy := s.rules("version: 1\nroots:\n  org: {certificates: [mine.pem], identities: [\"C=DE, ST=BE, O=Acme\"]}\nscopes:\n  \"*\": [org]\n")
	good, _ := s.image("good:1.0")
	s.sign("mine", good)
	s.accepts(good, "--policy", policy)
	before := tree(t, s.dir)
	for who, reason := range map[string]string{"rotated": "identity-mismatch", "stranger": "no-trusted-signature"} {
		ref, _ := s.image(who + ":1.0")
		s.sign(who, ref)
		for range 2 { // the second contact is as the first
			s.rejects(reason, ref, "--policy", policy)
		}
	}
	if after := tree(t, s.dir); after != before {
		t.Errorf("files were written:\n%s\n%s", before, after)
	}
	// A root is known by a file that the user hands in, never by a name or an address.
	ref := s.Host + "/stranger:1.0"
	for _, flag := range []string{"--trust-on-first-use", "--tofu", "--remember", "--learn"} {
		s.want(t, 3, "", "verify", ref, "--policy", policy, flag)
	}
}

// R29, R36: a registry that lists no referrers and deletes nothing needs nothing done by whoever runs it; and nothing is
// tagged but by the tag that the specification has for such registries. R34: what was signed is as it was.
func TestR29R34R36RegistriesAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		s := newSceneAt(t, kind)
		root := certtest.Root("root")
		ca := root.Intermediate("CA")
		p := s.adds("mine", root, ca, certtest.Key("P-256"))
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete {
				failure(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
				return true
			}
			return false
		})
		a := image("as it was")
		ref, _ := s.push("app:1.0", a)
		s.sign("mine", ref)
		s.accepts(ref, "--root", s.at("mine.pem"))
		renewed := root.IntermediateWith(ca.Key, "CA", certtest.Valid(time.Now().Add(-time.Hour), time.Now().AddDate(8, 0, 0)))
		s.file("renewed.pem", certtest.PEM(renewed.Chain(p.leaf)...))
		o := s.does("rechain", ref, "--chain", s.at("renewed.pem"), "--replace")
		fresh := digest.Digest(o.field(t, "signatures.0.new"))
		if err := judge.VerifyOnly(t.Context(), ref, fresh, root.Certificate); fresh == "" || err != nil {
			t.Errorf("%s: notation, of the renewed one: %v\n%s%s", kind, err, o.stdout, o.stderr)
		}
		s.accepts(ref, "--root", s.at("mine.pem"))
		s.does("inspect", ref)
		if err := judge.Verify(t.Context(), ref, root.Certificate); err != nil {
			t.Errorf("%s: notation: %v", kind, err)
		}
		if got := s.digestAt(ref); got != a.descriptor.Digest {
			t.Errorf("%s: the tag names %s, want %s", kind, got, a.descriptor.Digest)
		}
		want := []string{"1.0"}
		if kind == regtest.WithoutAPI {
			want = append(want, strings.Replace(a.descriptor.Digest.String(), ":", "-", 1))
		}
		if got := s.tags("app"); !slices.Equal(got, want) {
			t.Errorf("%s: tags %q, want %q", kind, got, want)
		}
	}
}

// Chains are complete, ordered, end in a root, and hold nothing else: made so, or refused before the key is used.
func TestR39Chains(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "other")
	p, other := s.parties["mine"], s.parties["other"]
	twin := p.root.Intermediate("mine CA") // another key
	for name, c := range map[string]struct {
		certs  []*x509.Certificate
		reason string // empty: it is made right
	}{
		"shuffled":              {[]*x509.Certificate{p.root.Certificate, p.leaf, p.ca.Certificate}, ""},
		"with what is not ours": {[]*x509.Certificate{p.leaf, other.ca.Certificate, p.ca.Certificate, p.root.Certificate, other.root.Certificate}, "unrelated"},
		"leaf alone":            {[]*x509.Certificate{p.leaf}, "incomplete"},
		"no root":               {[]*x509.Certificate{p.leaf, p.ca.Certificate}, "incomplete"},
		"a gap":                 {[]*x509.Certificate{p.leaf, p.root.Certificate}, "incomplete"},
		"another's leaf":        {other.ca.Chain(other.leaf), "key-mismatch"},
		"two parents":           {[]*x509.Certificate{p.leaf, p.ca.Certificate, twin.Certificate, p.root.Certificate}, "unrelated"},
		"only the wrong parent": {[]*x509.Certificate{p.leaf, twin.Certificate, p.root.Certificate}, "not-issued-by"},
	} {
		ref, _ := s.image(strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "'", "") + ":1.0")
		before := s.writes()
		code := 3
		if c.reason == "" {
			code = 0
		}
		o := s.want(t, code, "", "sign", ref, "--key", "file:"+s.at("mine.key"), "--chain", s.file("given.pem", certtest.PEM(c.certs...)))
		if c.reason != "" {
			if got := o.field(t, "reason"); got != c.reason {
				t.Errorf("%s: reason %s, want %s", name, got, c.reason)
			}
			if n := s.writes() - before; n != 0 {
				t.Errorf("%s: %d writes", name, n)
			}
			continue
		}
		if got := o.field(t, "chain.len"); got != "3" {
			t.Errorf("%s: %s certificates", name, got)
		}
		if err := judge.Verify(t.Context(), ref, p.root.Certificate); err != nil {
			t.Errorf("%s: notation: %v", name, err)
		}
	}
}

func TestR42ReservedMetadata(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	ref, _ := s.image("app:1.0")
	before := s.writes()
	for _, name := range []string{"io.cncf.notary.x=1", "io.cncf.notary=1", "io.cncf.notary.x509chain.thumbprint#S256=[]"} {
		s.want(t, 3, "", slices.Concat([]string{"sign", ref, "-m", name}, s.by("mine"))...)
	}
	if n := s.writes() - before; n != 0 {
		t.Errorf("%d writes", n)
	}
	o := s.sign("mine", ref, "-m", "build=8812")
	if got := o.field(t, "metadata.build"); got != "8812" {
		t.Errorf("metadata %q", got)
	}
	s.want(t, 0, "", "verify", ref, "--root", s.at("mine.pem"))
}
