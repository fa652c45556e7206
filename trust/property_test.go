package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// A drawn policy is one out of a small world: three roots, scopes over a few segments, mirrors, all rules and settings.
type drawn struct {
	scopes  map[string]drawnScope
	mirrors map[string]string // to their originals
}

type drawnScope struct {
	rule    string         // "trust", "require", "reject", "accept"
	trust   []drawnEntry   // of rule trust
	groups  [][]drawnEntry // of rule require
	shared  bool
	inherit bool
	claims  string
	enforce bool
	rsaOnly bool
}

type drawnEntry struct {
	root   string
	claims string
}

var (
	worldRoots   = []string{"a", "b", "c"}
	worldScopes  = []string{"*", "r.example", "r.example/x", "r.example/x/y", "r.example/xy", "q.example", "q.example/x"}
	worldMirrors = map[string]string{"m.example/one": "r.example/x", "m.example/two": "q.example", "n.example/all": "r.example"}
	worldModes   = []string{"", "ignore", "if-present", "tag", "name"}
	worldRefs    = []string{
		"r.example/x:1", "r.example/x/y:1", "r.example/x/y/z:1", "r.example/xy:1", "r.example/z:1", "q.example/x:1", "q.example/y:2", "o.example/x:1",
		"m.example/one:1", "m.example/one/y:1", "m.example/two/x:1", "n.example/all/x:1", "n.example/all/x/y:1", "m.example/ones:1",
		"r.example/x@" + artifact.Digest.String(), "r.example/x/y:2@" + artifact.Digest.String(), "n.example/all/x@" + artifact.Digest.String(),
	}
)

func draw(r *rand.Rand) drawn {
	d := drawn{scopes: map[string]drawnScope{}, mirrors: map[string]string{}}
	for _, name := range worldScopes {
		if r.IntN(2) == 0 {
			d.scopes[name] = drawScope(r)
		}
	}
	if len(d.scopes) == 0 {
		d.scopes["*"] = drawScope(r)
	}
	for _, name := range slices.Sorted(maps.Keys(worldMirrors)) {
		if r.IntN(2) == 0 {
			d.mirrors[name] = worldMirrors[name]
		}
	}
	d.mend()
	return d
}

// mend changes what would not load.
func (d drawn) mend() {
	for _, name := range worldScopes { // each after its enclosing one
		s, ok := d.scopes[name]
		if !ok {
			continue
		}
		if s.rule == "accept" && !strings.Contains(name, "/") {
			s.rule = "reject"
		}
		up := d.enclosing(name)
		s.inherit = s.inherit && s.rule == "trust" && up != "" && d.scopes[up].rule == "trust"
		d.scopes[name] = s
	}
	for mirror, original := range d.mirrors {
		if d.enclosing(original+"/imaginary") == "" {
			delete(d.mirrors, mirror)
		}
	}
}

func drawScope(r *rand.Rand) drawnScope {
	s := drawnScope{inherit: r.IntN(2) == 0, claims: worldModes[r.IntN(len(worldModes))], enforce: r.IntN(6) > 0, rsaOnly: r.IntN(10) == 0}
	s.rule = []string{"trust", "trust", "trust", "require", "reject", "accept"}[r.IntN(6)]
	s.trust = drawEntries(r, 3)
	s.shared = r.IntN(3) == 0
	for range 1 + r.IntN(3) {
		s.groups = append(s.groups, drawEntries(r, 3))
	}
	if r.IntN(3) == 0 { // which asks for two keys of the same roots
		s.groups = append(s.groups, s.groups[0])
	}
	return s
}

func drawEntries(r *rand.Rand, most int) (out []drawnEntry) {
	for range 1 + r.IntN(most) {
		out = append(out, drawnEntry{worldRoots[r.IntN(3)], worldModes[r.IntN(len(worldModes))]})
	}
	return out
}

// enclosing is P4, said in another way than the product does: the longest other scope that is a prefix in whole segments.
func (d drawn) enclosing(name string) string {
	best := ""
	for other := range d.scopes {
		if other == name || name == "*" {
			continue
		}
		if (other == "*" || strings.HasPrefix(name+"/", other+"/")) && (best == "" || best == "*" || other != "*" && len(other) > len(best)) {
			best = other
		}
	}
	return best
}

// original is what name mirrors, or name.
func (d drawn) original(name string) string {
	for mirror, original := range d.mirrors {
		if strings.HasPrefix(name+"/", mirror+"/") {
			return original + name[len(mirror):]
		}
	}
	return name
}

// yaml writes the policy with scopes, roots, mirrors and entries in an order of r's.
func (d drawn) yaml(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("version: 1\nroots:\n")
	for _, i := range r.Perm(len(worldRoots)) {
		fmt.Fprintf(&b, "  %[1]s: roots/%[1]s.pem\n", worldRoots[i])
	}
	if len(d.mirrors) > 0 {
		b.WriteString("mirrors:\n")
		mirrors := slices.Sorted(maps.Keys(d.mirrors))
		for _, i := range r.Perm(len(mirrors)) {
			fmt.Fprintf(&b, "  %s: [%s]\n", d.mirrors[mirrors[i]], mirrors[i])
		}
	}
	b.WriteString("scopes:\n")
	names := slices.Sorted(maps.Keys(d.scopes))
	for _, i := range r.Perm(len(names)) {
		s := d.scopes[names[i]]
		fmt.Fprintf(&b, "  %q:\n", names[i])
		if !s.enforce {
			b.WriteString("    enforce: false\n")
		}
		switch s.rule {
		case "reject":
			b.WriteString("    reject: true\n")
			continue
		case "accept":
			b.WriteString("    accept: unsigned\n")
			continue
		case "require":
			b.WriteString("    require:\n")
			for _, group := range s.groups {
				b.WriteString("    - " + strings.TrimLeft(entriesYAML(r, group, "      "), " "))
			}
			if s.shared {
				b.WriteString("    distinct: false\n")
			}
		default:
			b.WriteString("    trust:\n" + entriesYAML(r, s.trust, "    "))
		}
		if s.inherit {
			b.WriteString("    inherit: true\n")
		}
		if s.claims != "" {
			fmt.Fprintf(&b, "    claims: %s\n", s.claims)
		}
		if s.rsaOnly {
			b.WriteString("    algorithms: [PS256]\n")
		}
	}
	return b.String()
}

func entriesYAML(r *rand.Rand, entries []drawnEntry, indent string) string {
	var b strings.Builder
	for _, j := range r.Perm(len(entries)) {
		e := entries[j]
		if e.claims == "" {
			fmt.Fprintf(&b, "%s- %s\n", indent, e.root)
			continue
		}
		fmt.Fprintf(&b, "%s- {claims: %s, root: %s}\n", indent, e.claims, e.root)
	}
	return b.String()
}

// A world has three roots, signatures of each, and loads drawn policies.
type world struct {
	t    *testing.T
	dir  string
	sigs map[string]registry.Signature // "root claim"
	said map[string]envelope.Content   // what verified of them
}

var worldClaims = map[string][]string{"none": nil, "empty": {}, "1": {"1"}, "r.example/x": {"r.example/x"}, "r.example/x/y:1": {"r.example/x/y:1"}}

func newWorld(t *testing.T) *world {
	w := &world{t: t, sigs: map[string]registry.Signature{}, said: map[string]envelope.Content{}}
	files := map[string]string{}
	for _, name := range worldRoots {
		s := newSignatory(name)
		files["roots/"+name+".pem"] = s.pem()
		for claim, claims := range worldClaims {
			sig := s.sign(t, signing{claims: claims})
			e, err := envelope.Parse(sig.MediaType, sig.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			content, err := e.Verify()
			if err != nil {
				t.Fatal(err)
			}
			w.sigs[name+" "+claim], w.said[name+" "+claim] = sig, content
		}
	}
	w.dir = filepath.Dir(folderOf(t, "", files))
	return w
}

// judge is Judge of signatures that verified before.
func (w *world) judge(p *Policy, reference string, names []string, now time.Time) Report {
	c := p.court(ref(w.t, reference), artifact, now, evidence{})
	var findings []finding
	for _, name := range names {
		f := c.hear(w.said[name])
		f.Digest = w.sigs[name].Descriptor.Digest
		findings = append(findings, f)
	}
	return c.conclude(findings)
}

func (w *world) load(text string) *Policy {
	w.t.Helper()
	files := &folder{path: w.dir}
	defer files.close()
	p, err := parsePolicy("policy.yaml", []byte(text), files)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, text)
	}
	return p
}

// some draws up to three signatures.
func (w *world) some(r *rand.Rand) (names []string, out []registry.Signature) {
	all := slices.Sorted(maps.Keys(w.sigs))
	for range r.IntN(4) {
		name := all[r.IntN(len(all))]
		names, out = append(names, name), append(out, w.sigs[name])
	}
	return names, out
}

// rounds is bounded by the time that verifying takes under the race detector.
const rounds = 80

// A second evaluator that knows only the rules as they are written agrees.
func TestNaiveEvaluatorAgrees(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 4 * rounds {
		d := draw(r)
		p := w.load(d.yaml(r))
		names, _ := w.some(r)
		for _, reference := range worldRefs {
			got := w.judge(p, reference, names, time.Now())
			want := d.accepts(reference, names)
			if (got.Verdict == Accepted) != want {
				t.Fatalf("%s signed by %q: got %s %s, want accepted %v\n%s", reference, names, got.Verdict, got.Reason, want, d.yaml(r))
			}
			seen[got.Verdict+" "+got.Reason]++
		}
	}
	for _, outcome := range []string{"accepted ", "rejected no-scope", "rejected rejected-by-policy", "rejected unsigned", "rejected no-trusted-signature", "rejected claim-not-covered", "rejected claims-missing",
		"rejected algorithm-not-allowed", "rejected key-used-twice", "rejected require-unsatisfied"} {
		if seen[outcome] < 10 {
			t.Errorf("%q was seen %d times: the drawn policies test too little", outcome, seen[outcome])
		}
	}
}

// accepts decides by definition: effective trust is computed as a list, claims by tables.
func (d drawn) accepts(reference string, signatures []string) bool {
	name, _, _ := strings.Cut(reference, "@")
	name, tag, _ := strings.Cut(name, ":")
	original := d.original(name)
	selected := d.enclosing(original + "/imaginary")
	s, ok := d.scopes[selected]
	switch {
	case !ok || s.rule == "reject":
		return false
	case s.rule == "accept":
		return true
	case s.rsaOnly:
		return false
	}
	groups := s.groups
	if s.rule == "trust" {
		groups = [][]drawnEntry{nil}
		for at := selected; ; at = d.enclosing(at) {
			groups[0] = append(groups[0], d.scopes[at].trust...)
			if !d.scopes[at].inherit {
				break
			}
		}
	}
	accepted := func(signature string, entries []drawnEntry) bool {
		root, claim, _ := strings.Cut(signature, " ")
		return slices.ContainsFunc(entries, func(e drawnEntry) bool {
			mode := e.claims
			if mode == "" {
				mode = s.claims
			}
			return e.root == root && (claimHolds(mode, claim, name, tag) || claimHolds(mode, claim, original, tag))
		})
	}
	var seats func(groups [][]drawnEntry, used string) bool
	seats = func(groups [][]drawnEntry, used string) bool { // each root has one key
		return len(groups) == 0 || slices.ContainsFunc(signatures, func(signature string) bool {
			key := signature[:1]
			return accepted(signature, groups[0]) && (s.shared || !strings.Contains(used, key)) && seats(groups[1:], used+key)
		})
	}
	return seats(groups, "")
}

func claimHolds(mode, claim, name, tag string) bool {
	qualified, qualifiedTag, hasTag := strings.Cut(claim, ":")
	isQualified := strings.Contains(claim, "/")
	covered := false
	switch {
	case isQualified && hasTag:
		covered = qualified == name && (tag == "" || qualifiedTag == tag)
	case isQualified:
		covered = claim == name && (mode != "tag" || tag == "")
	default:
		covered = claim == tag && mode != "name"
	}
	switch mode {
	case "ignore":
		return true
	case "", "if-present":
		return tag == "" || claim == "none" || covered
	case "tag":
		return tag == "" || covered
	}
	return isQualified && covered
}

func someRefs(r *rand.Rand) []string {
	var out []string
	for _, i := range r.Perm(len(worldRefs))[:4] {
		out = append(out, worldRefs[i])
	}
	return out
}

// P12: no order means anything, down to the bytes of the report.
func TestP12Permutation(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), rand.New(rand.NewPCG(3, 4))
	now := time.Now()
	for range rounds {
		d := draw(r)
		_, sigs := w.some(r)
		sigs = append(sigs, registry.Signature{Subject: artifact, Descriptor: describe("gone"), Err: registry.ErrMalformed})
		a, b := w.load(d.yaml(r)), w.load(d.yaml(r))
		shuffled := slices.Clone(sigs)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, reference := range someRefs(r) {
			x, y := a.Judge(ref(t, reference), artifact, sigs, now), b.Judge(ref(t, reference), artifact, shuffled, now)
			for _, report := range []*Report{&x, &y} { // that the bytes of the file differ is told, and right
				report.PolicyDigest = ""
				if report.Scope != nil {
					report.Scope.Line = 0
				}
			}
			if diff := cmp.Diff(string(must(json.Marshal(x))), string(must(json.Marshal(y)))); diff != "" {
				t.Fatalf("%s: %s\n%s", reference, diff, d.yaml(r))
			}
		}
	}
}

// P13: another scope changes only what is under it; another root never rejects; a narrowing never accepts.
func TestP13LocalityMonotonyNarrowing(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), rand.New(rand.NewPCG(5, 6))
	now := time.Now()
	changed, widened, narrowed := 0, 0, 0
	for range 6 * rounds {
		d := draw(r)
		before := w.load(d.yaml(r))
		signed, _ := w.some(r)
		judge := func(p *Policy, reference string) Report { return w.judge(p, reference, signed, now) }
		refs, was := someRefs(r), map[string]Report{}
		for _, reference := range refs {
			was[reference] = judge(before, reference)
		}

		added := worldScopes[r.IntN(len(worldScopes))]
		if _, ok := d.scopes[added]; !ok {
			more := drawn{maps.Clone(d.scopes), maps.Clone(d.mirrors)}
			s := drawScope(r)
			if slices.ContainsFunc(slices.Collect(maps.Keys(d.scopes)), func(name string) bool {
				return d.scopes[name].inherit && (added == "*" || strings.HasPrefix(name, added+"/"))
			}) {
				s.rule = "trust" // under anything else nothing could inherit
			}
			more.scopes[added] = s
			more.mend()
			after := w.load(more.yaml(r))
			for _, reference := range refs {
				if was[reference].Verdict == judge(after, reference).Verdict {
					continue
				}
				changed++
				if repo := d.original(repository(ref(t, reference))); added != "*" && !strings.HasPrefix(repo+"/", added+"/") {
					t.Fatalf("scope %s changed %s\n%s", added, reference, more.yaml(r))
				}
			}
		}

		names := slices.Sorted(maps.Keys(d.scopes))
		if name := names[r.IntN(len(names))]; d.scopes[name].rule == "trust" || d.scopes[name].rule == "require" {
			s := d.scopes[name]
			more := drawn{maps.Clone(d.scopes), d.mirrors}
			one := drawnEntry{worldRoots[r.IntN(3)], worldModes[r.IntN(2)]}
			s.trust = append(slices.Clone(s.trust), one)
			s.groups = slices.Clone(s.groups)
			i := r.IntN(len(s.groups))
			s.groups[i] = append(slices.Clone(s.groups[i]), one)
			more.scopes[name] = s
			after := w.load(more.yaml(r))
			for _, reference := range refs {
				switch was, is := was[reference].Verdict == Accepted, judge(after, reference).Verdict == Accepted; {
				case was && !is:
					t.Fatalf("another root in %s rejects %s\n%s", name, reference, more.yaml(r))
				case is && !was:
					widened++
				}
			}
		}

		var n Narrowing
		switch r.IntN(4) {
		case 0:
			n.OnlyRoots = []string{worldRoots[r.IntN(3)]}
		case 1:
			n.RequireClaim = true
		case 2:
			n.MaxAge = time.Duration(1 + r.IntN(2)*int(time.Hour))
		case 3:
			n.Algorithms = []string{allAlgorithms[r.IntN(len(allAlgorithms))]}
		}
		after, err := before.Narrow(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, reference := range refs {
			switch was, is := was[reference], judge(after, reference); {
			case was.Verdict != Accepted && is.Verdict == Accepted, !was.Passed() && is.Passed():
				t.Fatalf("narrowing %+v accepts %s\n%s", n, reference, d.yaml(r))
			case was.Verdict == Accepted && is.Verdict != Accepted:
				narrowed++
			}
		}
	}
	t.Logf("changed %d, widened %d, narrowed %d", changed, widened, narrowed)
	if changed < 10 || widened < 10 || narrowed < 10 {
		t.Errorf("changed %d, widened %d, narrowed %d verdicts: the drawn policies test too little", changed, widened, narrowed)
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, seed := range []string{
		"", "version: 1\n", head + "  \"*\": [a]\n", head + "  r.example: {trust: [{root: a, identities: [\"C=DE, O=Acme\"], claims: tag}], max-age: 90d, algorithms: [ES256], enforce: false}\n  r.example/x: {reject: true}\n",
		head + "  r.example: &x [a]\n  q.example: *x\n", "version: 1\nroots: {a: |\n  -----BEGIN CERTIFICATE-----\n  AAAA\n  -----END CERTIFICATE-----\n}\n", "a: [", "? {}\n: !!x y", "---\n---\n", "\ufeffversion: 1",
		head + "  r.example: {require: [[a], [b, {root: a, claims: name}]], distinct: false, strict-x509: true}\n  r.example/x/y: {accept: unsigned}\nmirrors: {r.example: [m.example, n.example/x]}\n",
		head + "  r.example: {trust: [a], delegate: {root: b, from: registry, at: \"r.example/d:1\", identities: [CN=d]}, revocation: {check: log, network: true}, timestamps: {roots: [roots/b.pem], use: always}}\n",
		"version: 1\nroots: {a: {certificates: [roots/a.pem], identities: [\"uri:https://a.example/*\"], pin: root, kind: ca}}\nscopes: {\"[::1]:5000\": [a], localhost/x: {trust: [a], inherit: false}}\n",
	} {
		f.Add([]byte(seed))
	}
	dir := filepath.Dir(folderOf(f, "", testRoots()))
	judged := registry.Reference{Host: "r.example", Path: "x/y", Tag: "1"}
	f.Fuzz(func(t *testing.T, b []byte) {
		files := &folder{path: dir}
		defer files.close()
		p, err := parsePolicy("policy.yaml", b, files)
		if err != nil {
			var e *LoadError
			if !errors.As(err, &e) || Reasons()[e.Code] == "" || e.Error() == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		// What loads never fails later, and accepts nothing that is not signed.
		if got := p.Judge(judged, artifact, nil, time.Now()); got.Verdict == Accepted && got.Scope.Rule != "accept-unsigned" {
			t.Fatalf("accepted without a signature\n%s", b)
		}
		for _, s := range p.Summary(time.Now()).Scopes {
			again, err := canonicalScope(s.Scope)
			if err != nil || again != s.Scope {
				t.Fatalf("scope %q is not canonical: %q, %v", s.Scope, again, err)
			}
			switch asks := s.Rule == "trust" || s.Rule == "require"; {
			case asks && len(s.Trust) == 0:
				t.Fatalf("scope %q trusts nothing", s.Scope)
			case s.Rule == "accept-unsigned" && !strings.Contains(s.Scope, "/"):
				t.Fatalf("scope %q accepts what is unsigned", s.Scope)
			}
		}
		p.Explain(judged)
	})
}
