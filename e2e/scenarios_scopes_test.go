package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestS01PrivateNeverByPublicRoot(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "hub")
	policy := s.policy("scopes:\n  priv.example: [mine]\n  docker.io: [hub]\n")
	ref, _ := s.image("app:1.0")
	s.sign("hub", ref)
	s.accepts(ref, asFor(policy, "docker.io/library/app:1.0")...)
	o := s.rejects("no-trusted-signature", ref, asFor(policy, "priv.example/app:1.0")...)
	if got := o.field(t, "scope.scope"); got != "priv.example" {
		t.Errorf("the selected scope is %q", got)
	}
	if o := s.run(t, append([]string{"verify", ref}, asFor(policy, "priv.example/app:1.0")...)...); !strings.Contains(o.stdout, "scope priv.example ") {
		t.Errorf("the selected scope is not named:\n%s", o.stdout)
	}
	s.sign("mine", ref)
	s.accepts(ref, asFor(policy, "priv.example/app:1.0")...)
}

func TestS04NoPriorities(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "hub")
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	for _, scope := range []string{"{trust: [mine], priority: 1}", "{priority: 1, trust: [mine]}"} {
		policy := s.policy("scopes:\n  docker.io: " + scope + "\n")
		o := s.want(t, 3, "policy-key-unknown", slices.Concat([]string{"verify", ref}, asFor(policy, "docker.io/library/app:1.0"))...)
		for _, word := range []string{"policy-1.yaml:6:", "priority", "inherit", "longest"} {
			if said := strings.ReplaceAll(o.stdout+o.stderr, "policy-2.yaml", "policy-1.yaml"); !strings.Contains(said, word) {
				t.Errorf("%q is not said:\n%s", word, said)
			}
		}
	}
}

func TestS05WiderRootsAreNotConsulted(t *testing.T) {
	t.Parallel()
	s := newScene(t, "wide", "narrow")
	ref, _ := s.image("app:1.0")
	s.sign("wide", ref)
	exclusive := s.policy("scopes:\n  docker.io: [wide]\n  docker.io/vendor: [narrow]\n")
	o := s.rejects("no-trusted-signature", ref, asFor(exclusive, "docker.io/vendor/app:1.0")...)
	if got := o.field(t, "scope.trust"); got != `["narrow"]` {
		t.Errorf("%s is consulted", got)
	}
	// Said, it goes on to the wider one.
	inheriting := s.policy("scopes:\n  docker.io: [wide]\n  docker.io/vendor: {trust: [narrow], inherit: true}\n")
	s.accepts(ref, asFor(inheriting, "docker.io/vendor/app:1.0")...)
}

func TestS15OneKeyForEverything(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	policy := s.policy("scopes:\n  \"*\": [mine]\n")
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	s.accepts(ref, "--policy", policy) // where it is
	for _, as := range []string{"docker.io/library/app:1.0", "ghcr.io/a/b/c:1.0", "localhost:5000/x:1.0", "[::1]:5000/x:1.0"} {
		s.accepts(ref, asFor(policy, as)...)
	}
}

// One table shows what several asked for with the company's keys: S17, S40, R41 and the vendor of S25.
func TestS17S25S40R41WhatEachKeyMaySign(t *testing.T) {
	t.Parallel()
	s := newScene(t, "company", "hub", "vendor", "other")
	policy := s.policy(`scopes:
  "*": [company]
  docker.io: {trust: [company], claims: ignore}
  docker.io/library: {trust: [hub], inherit: true}
  docker.io/vendor: [vendor]
  docker.io/other: [other]
`)
	refs := map[string]string{}
	for _, who := range []string{"company", "hub", "vendor", "other"} {
		ref, _ := s.image(who + ":1.0")
		s.sign(who, ref)
		refs[who] = ref
	}
	both, _ := s.image("both:1.0")
	s.sign("hub", both)
	s.sign("vendor", both)
	refs["vendor+hub"] = both
	for as, accepted := range map[string]string{
		"docker.io/library/alpine": "company hub vendor+hub",
		"docker.io/vendor/app":     "vendor vendor+hub", // S40: the vendor's key, not the host's
		"docker.io/other/app":      "other",             // S25: not another vendor's
		"docker.io/vendorx/app":    "company",
		"ghcr.io/a/b":              "company", // R41: a vendor's key is good for nothing else
	} {
		for who, ref := range refs {
			if slices.Contains(strings.Fields(accepted), who) {
				s.accepts(ref, asFor(policy, as+":1.0")...)
				continue
			}
			s.rejects("no-trusted-signature", ref, asFor(policy, as+":1.0")...)
		}
	}
}

func TestS18R19MirrorsMultiplyScopes(t *testing.T) {
	t.Parallel()
	s := newScene(t, "vendor", "acme", "hub")
	policy := s.policy(`scopes:
  docker.io: [hub]
  docker.io/vendor: [vendor]
  docker.io/vendor/old: {reject: true}
mirrors:
  docker.io/vendor: [mirror.example/v, second.example]
`)
	ref, _ := s.image("app:1.0")
	s.sign("vendor", ref)
	hub, _ := s.image("hub:1.0")
	s.sign("hub", hub)
	for _, at := range []string{"docker.io/vendor", "mirror.example/v", "second.example"} {
		s.accepts(ref, asFor(policy, at+"/app:1.0")...)
		s.rejects("no-trusted-signature", hub, asFor(policy, at+"/app:1.0")...)
		s.rejects("rejected-by-policy", ref, asFor(policy, at+"/old/app:1.0")...)
	}
	s.rejects("no-scope", ref, asFor(policy, "mirror.example/other/app:1.0")...)
	// What was generated is shown.
	o := s.does("policy", "explain", "mirror.example/v/app:1.0", "--policy", policy)
	if !strings.Contains(o.stdout, `"mirror.example/v"`) || !strings.Contains(o.stdout, "docker.io/vendor") {
		t.Errorf("explain does not show the generated scope:\n%s", o.stdout)
	}
	o = s.run(t, "policy", "check", "--policy", policy)
	for _, scope := range []string{"mirror.example/v", "mirror.example/v/old", "second.example", "second.example/old"} {
		if !strings.Contains(o.stdout, scope) {
			t.Errorf("check does not show %s:\n%s", scope, o.stdout)
		}
	}

	// R19: retagged and copied, the signatures of vendor and company are both there.
	both := s.policy("scopes:\n  acme.example: {require: [[vendor], [acme]], claims: ignore}\n")
	s.rejects("require-unsatisfied", ref, asFor(both, "acme.example/app:1.0")...)
	s.sign("acme", ref, "--claim", "1.0-20261122")
	s.does("copy", ref, s.Host+"/mirror/app", "--tag", "1.0-20261122")
	s.accepts(s.Host+"/mirror/app:1.0-20261122", asFor(both, "acme.example/app:1.0-20261122")...)
}

// The whole of it stands as properties in package trust; this is that it holds through the command, with every root and
// scope in another order.
func TestS19OrderMeansNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, "a", "b", "c")
	ref, _ := s.image("app:1.0")
	s.sign("b", ref)
	roots := []string{"  a: a.pem", "  b: b.pem", "  c: c.pem"}
	scopes := []string{"  \"*\": [c]", "  x.example: [a, c]", "  x.example/y: {trust: [b, a], inherit: true}", "  x.example/y/z: [a]"}
	wants := map[string]bool{"x.example/y/app": true, "x.example/y/z/app": false, "x.example/app": false, "z.example/app": false}
	r := rand.New(rand.NewPCG(19, 1))
	for range 6 {
		r.Shuffle(len(roots), func(i, j int) { roots[i], roots[j] = roots[j], roots[i] })
		r.Shuffle(len(scopes), func(i, j int) { scopes[i], scopes[j] = scopes[j], scopes[i] })
		policy := s.rules("version: 1\nroots:\n" + strings.Join(roots, "\n") + "\nscopes:\n" + strings.Join(scopes, "\n") + "\n")
		for as, accepted := range wants {
			if accepted {
				s.accepts(ref, asFor(policy, as+":1.0")...)
				continue
			}
			s.rejects("no-trusted-signature", ref, asFor(policy, as+":1.0")...)
		}
	}
}

// S21: whatever order a registry lists signatures in, the report is the same to the byte. (A thousand orders, without a
// registry: TestS21Shuffled in package trust.)
func TestS21WhateverOrderTheyAreListedIn(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := newDesk(t, f, t.Name())
	policy := d.file("policy.yaml", []byte("version: 1\nroots:\n  one: root.pem\n  two: two.pem\nscopes:\n  \"*\": [one, two]\n"))
	two := newDesk(t, f, "two")
	d.file("two.pem", read(t, two.at("root.pem")))
	f.attach(d.repo, d.subject, jwsType, d.jws().bytes())
	f.attach(d.repo, d.subject, coseType, d.cose().bytes())
	f.attach(d.repo, d.subject, jwsType, newJWS(two.key, two.chain(), d.subject).bytes())
	f.attach(d.repo, d.subject, jwsType, newJWS(two.key, two.chain(), two.subject).bytes())
	f.attach(d.repo, d.subject, jwsType, []byte("no envelope"))
	now := d.now()
	d.now = func() time.Time { return now }
	ref := f.Host + "/" + d.repo + "@" + d.subject.Digest.String()
	first := d.want(t, 0, "", "verify", ref, "--policy", policy)
	if got := first.field(t, "signatures.len"); got != "5" {
		t.Fatalf("%s signatures", got)
	}

	r := rand.New(rand.NewPCG(21, 1))
	for range 8 {
		f.mu.Lock()
		l := f.listed[d.repo+"@"+d.subject.Digest.String()]
		r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
		f.mu.Unlock()
		if again := d.want(t, 0, "", "verify", ref, "--policy", policy); again.stdout != first.stdout {
			t.Errorf("another order, another report:\n%s\n%s", first.stdout, again.stdout)
		}
	}
}

// The two forms of the discussion's configuration, exclusive scopes with wide keys repeated and scopes that go on to the
// enclosing one, mean the same sets of keys (S22), and the first is what nothing said means (S23).
func TestS22S23TwoFormsOfOneMeaning(t *testing.T) {
	t.Parallel()
	s := newScene(t, "company", "hub", "vendor", "team")
	merged := s.policy(`scopes:
  "*": [company]
  docker.io: {trust: [hub], inherit: true}
  docker.io/vendor: {trust: [vendor], inherit: true}
  docker.io/vendor/own: [vendor]
  ghcr.io/team: {trust: [team], inherit: true}
  ghcr.io/team/closed: [team]
  ghcr.io/team/closed/more: {trust: [company], inherit: true}
`)
	explicit := s.policy(`scopes:
  "*": [company]
  docker.io: [hub, company]
  docker.io/vendor: [vendor, hub, company]
  docker.io/vendor/own: [vendor]
  ghcr.io/team: [team, company]
  ghcr.io/team/closed: [team]
  ghcr.io/team/closed/more: [company, team]
`)
	r := rand.New(rand.NewPCG(22, 1))
	hosts := []string{"docker.io", "ghcr.io", "quay.io", "docker.io.evil.example"}
	segments := []string{"vendor", "vendorx", "team", "own", "closed", "more", "library", "x"}
	var refs strings.Builder
	const n = 10_000
	for range n {
		name := hosts[r.IntN(len(hosts))]
		for range 2 + r.IntN(3) {
			name += "/" + segments[r.IntN(len(segments))]
		}
		fmt.Fprintf(&refs, "%s:1.0\n", name)
	}
	list := s.file("refs", []byte(refs.String()))
	sets := func(policy string) (out []string) {
		o := s.does("policy", "explain", "--batch", list, "--policy", policy)
		docs, err := documents(o.stdout)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			if ref, ok := lookup(d, "reference"); ok {
				trusted, _ := lookup(d, "selected.trust")
				out = append(out, said(ref)+" "+said(trusted))
			}
		}
		return out
	}
	one, two := sets(merged), sets(explicit)
	if len(one) != n {
		t.Fatalf("%d answers", len(one))
	}
	kinds := map[string]bool{}
	for i := range one {
		_, set, _ := strings.Cut(one[i], " ")
		kinds[set] = true
		if one[i] != two[i] {
			t.Fatalf("%s in one form, %s in the other", one[i], two[i])
		}
	}
	if len(kinds) != 6 {
		t.Errorf("%d sets of keys: %v", len(kinds), kinds)
	}
}

// A reference is where trust begins: what has no name is judged by no policy.
func TestS26NamesComeFirst(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine")
	policy := s.policy("scopes:\n  \"*\": [mine]\n")
	ref, _ := s.image("app:1.0")
	s.sign("mine", ref)
	s.does("copy", ref, "oci:"+s.at("layout"))
	s.does("copy", ref, "oci-archive:"+s.at("app.tar"))
	for _, local := range []string{"oci:" + s.at("layout") + ":1.0", "oci-archive:" + s.at("app.tar") + ":1.0"} {
		s.want(t, 3, "as-required", "verify", local, "--policy", policy)
		s.accepts(local, asFor(policy, "docker.io/library/app:1.0")...)
	}
}

func TestS27APolicyForEachLaunch(t *testing.T) {
	t.Parallel()
	s := newScene(t, "maintainer", "own")
	database, _ := s.image("postgres:16")
	s.sign("maintainer", database)
	api, _ := s.image("api:1")
	s.sign("own", api)
	postgres := s.policy("scopes:\n  \"*\": [maintainer]\n")
	apis := s.policy("scopes:\n  \"*\": [own]\n")
	s.accepts(database, "--policy", postgres)
	s.accepts(api, "--policy", apis)
	s.rejects("no-trusted-signature", database, "--policy", apis)
	s.rejects("no-trusted-signature", api, "--policy", postgres)
}

// Wide and exact: a key for everything, and each of the four levels that older documents name.
func TestS28R31R32EveryLevelOfScope(t *testing.T) {
	t.Parallel()
	s := newScene(t, "any", "host", "repo", "target")
	policy := s.policy(`scopes:
  "*": [any]
  r.example: [host]
  r.example/team/app: [repo]
  r.example/team/exact: {trust: [target], claims: name}
`)
	for who, level := range map[string]string{"any": "elsewhere.example/x", "host": "r.example/other", "repo": "r.example/team/app"} {
		ref, _ := s.image(who + ":1.0")
		s.sign(who, ref)
		for _, at := range []string{"elsewhere.example/x", "r.example/other", "r.example/team/app"} {
			if at == level {
				s.accepts(ref, asFor(policy, at+":1.0")...)
				continue
			}
			s.rejects("no-trusted-signature", ref, asFor(policy, at+":1.0")...)
		}
	}
	ref, _ := s.image("target:1.0")
	s.sign("target", ref, "--claim-name", "r.example/team/exact:1.0")
	s.accepts(ref, asFor(policy, "r.example/team/exact:1.0")...)
	s.rejects("claim-not-covered", ref, asFor(policy, "r.example/team/exact:1.1")...)
	s.accepts(ref, asFor(s.policy("scopes:\n  r.example/team/exact: [target]\n"), "r.example/team/exact:1.0")...)
}

func TestS29FourPlacesNotAFifth(t *testing.T) {
	t.Parallel()
	s := newScene(t, "wabbit")
	ref, _ := s.image("networks/monitor:1.0")
	s.sign("wabbit", ref)
	places := []string{"wabbit.example/networks/monitor", "docker.io/wabbit/monitor", "acme.example/imports/monitor", "acme.example/prod/monitor"}
	var rules strings.Builder
	for _, at := range places {
		fmt.Fprintf(&rules, "  %s: [wabbit]\n", at)
	}
	four := s.policy("scopes:\n" + rules.String())
	mirrored := s.policy("scopes:\n  " + places[0] + ": [wabbit]\nmirrors:\n  " + places[0] + ": [" + strings.Join(places[1:], ", ") + "]\n")
	for _, policy := range []string{four, mirrored} {
		for _, at := range places {
			s.accepts(ref, asFor(policy, at+":1.0")...)
		}
		s.rejects("no-scope", ref, asFor(policy, "evil.example/wabbit/monitor:1.0")...)
		s.rejects("no-scope", ref, asFor(policy, "acme.example/other/monitor:1.0")...)
	}
}

func TestS30ExclusionAndSquatting(t *testing.T) {
	t.Parallel()
	s := newScene(t, "trusted", "attacker")
	policy := s.policy("scopes:\n  r.example/org: [trusted]\n  r.example/org/retired: {reject: true}\n")
	good, _ := s.image("good:1.0")
	s.sign("trusted", good)
	bad, _ := s.image("bad:1.0")
	s.sign("attacker", bad)
	s.accepts(good, asFor(policy, "r.example/org/app:1.0")...)
	s.rejects("rejected-by-policy", good, asFor(policy, "r.example/org/retired/app:1.0")...)
	// A longer path that the attacker makes has no scope of its own.
	for _, squatted := range []string{"r.example/org/app/app", "r.example/org/a/b/c/d/e"} {
		s.rejects("no-trusted-signature", bad, asFor(policy, squatted+":1.0")...)
		s.accepts(good, asFor(policy, squatted+":1.0")...)
	}
}

func TestS31EqualScopesDoNotLoad(t *testing.T) {
	t.Parallel()
	s := newScene(t, "a", "b")
	for _, text := range []string{
		"scopes:\n  docker.io/vendor: [a]\n  docker.io/vendor: [b]\n",
		"scopes:\n  docker.io/vendor: [a]\n  registry-1.docker.io/vendor: [b]\n",
		"scopes:\n  r.example/vendor: [a]\n  R.EXAMPLE:443/vendor: [b]\n",
	} {
		policy := s.policy(text)
		o := s.run(t, "policy", "check", "--policy", policy)
		if o.code != 3 || !strings.Contains(o.stderr, ".yaml:7:") || !strings.Contains(o.stderr, ".yaml:6") {
			t.Errorf("%s: exit %d, both places are not named:\n%s", text, o.code, o.stderr)
		}
	}
}

// The clusters of the discussion: what each root alone is good for in dev and in prod.
func TestS32S33R18Clusters(t *testing.T) {
	t.Parallel()
	s := newScene(t, "org", "dev", "library", "wordpress", "stranger")
	cluster := func(everywhere string) string {
		return s.policy(`scopes:
  "*": ` + everywhere + `
  mirror.example/library: {trust: [library], inherit: true}
  mirror.example/wordpress: {trust: [wordpress], inherit: true}
`)
	}
	dev, prod := cluster("[org, dev]"), cluster("[org]")
	columns := [][]string{{"org"}, {"dev"}, {"library"}, {"wordpress"}, {"dev", "org"}, {"stranger", "org"}}
	refs := make([]string, len(columns))
	for i, signers := range columns {
		refs[i], _ = s.image(fmt.Sprintf("image%d:1.0", i))
		for _, who := range signers {
			s.sign(who, refs[i])
		}
	}
	unsigned, _ := s.image("unsigned:1.0")
	for _, row := range []struct{ at, policy, want string }{
		{"mirror.example/wordpress", dev, "A A R A A A"},
		{"mirror.example/wordpress", prod, "A R R A A A"},
		{"mirror.example/library/alpine", dev, "A A A R A A"}, // S33: the wordpress key signs no alpine
		{"mirror.example/library/alpine", prod, "A R A R A A"},
		{"ci.example/team/api", dev, "A A R R A A"},
		{"ci.example/team/api", prod, "A R R R A A"}, // R18: not what dev signed
	} {
		for i, want := range strings.Fields(row.want) {
			if want == "A" {
				s.accepts(refs[i], asFor(row.policy, row.at+":1.0")...)
				continue
			}
			s.rejects("no-trusted-signature", refs[i], asFor(row.policy, row.at+":1.0")...)
		}
		s.rejects("unsigned", unsigned, asFor(row.policy, row.at+":1.0")...)
	}
}

// What a policy means is a finite table that two commands print without asking anybody.
func TestS41PoliciesAreTables(t *testing.T) {
	t.Parallel()
	s := newScene(t, "company", "hub", "vendor")
	policy := s.policy(`scopes:
  "*": [company]
  docker.io: {trust: [hub], inherit: true}
  docker.io/vendor: [vendor]
  docker.io/vendor/old: {reject: true}
`)
	o := s.does("policy", "check", "--policy", policy)
	var table []string
	docs, err := documents(o.stdout)
	if err != nil {
		t.Fatal(err)
	}
	scopes, _ := lookup(docs[len(docs)-1], "scopes")
	for _, row := range scopes.([]any) {
		scope, _ := lookup(row, "scope")
		rule, _ := lookup(row, "rule")
		trusted, _ := lookup(row, "trust")
		table = append(table, fmt.Sprint(scope, " ", rule, " ", said(trusted)))
	}
	want := []string{`* trust ["company"]`, `docker.io trust ["company","hub"]`, `docker.io/vendor trust ["vendor"]`, `docker.io/vendor/old reject []`}
	if !slices.Equal(table, want) {
		t.Errorf("the table is %q, want %q", table, want)
	}
	again := s.does("policy", "explain", "docker.io/vendor/app:1", "--policy", policy)
	if more := s.does("policy", "explain", "docker.io/vendor/app:1", "--policy", policy); more.stdout != again.stdout {
		t.Error("explain says another thing the second time")
	}
	if got := again.field(t, "matching"); got != `["docker.io/vendor","docker.io","*"]` {
		t.Errorf("matching scopes %s", got)
	}
	if n := s.Count(nil); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
}

// Observing needs the word: no scope is unenforced by accident.
func TestR11ReportOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "somebody")
	ref, _ := s.image("app:1.0")
	s.sign("somebody", ref)
	observing := s.policy("scopes:\n  \"*\": {trust: [mine], enforce: false}\n  prod.example: [mine]\n  prod.example/inherits: {trust: [mine], inherit: true}\n")
	o := s.want(t, 0, "", slices.Concat([]string{"verify", ref}, asFor(observing, "dev.example/app:1.0"))...)
	for path, want := range map[string]string{"verdict": "rejected", "enforced": "false", "signatures.0.identity": "C=DE, ST=BE, O=Acme, CN=somebody"} {
		if got := o.field(t, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if o := s.run(t, append([]string{"verify", ref}, asFor(observing, "dev.example/app:1.0")...)...); !strings.Contains(o.stdout, "CN=somebody") || strings.HasPrefix(o.stdout, "accepted") {
		t.Errorf("it is not told who signed:\n%s", o.stdout)
	}
	for _, at := range []string{"prod.example/app:1.0", "prod.example/inherits/app:1.0"} {
		s.rejects("no-trusted-signature", ref, asFor(observing, at)...)
	}
	for _, word := range []string{"no", "0", "\"false\"", "off", "null"} {
		policy := s.policy("scopes:\n  \"*\": {trust: [mine], enforce: " + word + "}\n")
		if o := s.run(t, append([]string{"verify", ref}, asFor(policy, "dev.example/app:1.0")...)...); o.code != 3 {
			t.Errorf("enforce: %s: exit %d\n%s", word, o.code, o.stdout)
		}
	}
}

func TestR13UnsignedOrUntrusted(t *testing.T) {
	t.Parallel()
	s := newScene(t, "mine", "stranger")
	policy := s.policy("scopes:\n  \"*\": [mine]\n")
	ref, _ := s.image("app:1.0")
	s.rejects("unsigned", ref, "--policy", policy)
	s.sign("stranger", ref)
	s.rejects("no-trusted-signature", ref, "--policy", policy)
	s.sign("mine", ref)
	s.accepts(ref, "--policy", policy)
}

// Three kinds of approval, each by its own key; the scan not older than a day.
func TestR35Approvals(t *testing.T) {
	t.Parallel()
	s := newScene(t, "staging", "test", "scan", "scan2")
	policy := s.policy(`scopes:
  "*": {require: [[staging], [test], [{root: scan, max-age: 24h}, {root: scan2, max-age: 24h}]], claims: ignore}
`)
	ref, _ := s.image("app:1.0")
	s.sign("staging", ref)
	s.sign("test", ref)
	s.rejects("require-unsatisfied", ref, "--policy", policy)
	now := s.now()
	s.now = func() time.Time { return now.Add(-23 * time.Hour) }
	s.sign("scan", ref)
	s.now = func() time.Time { return now }
	s.accepts(ref, "--policy", policy)
	s.now = func() time.Time { return now.Add(2 * time.Hour) }
	s.rejects("too-old", ref, "--policy", policy) // the scan is too old now; the others have no such limit
	s.sign("scan2", ref)
	s.accepts(ref, "--policy", policy)
}
