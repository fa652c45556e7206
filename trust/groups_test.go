package trust

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry"
)

// requiring is a policy of which r.example requires the groups.
func requiring(t testing.TB, by map[string]*signatory, groups, more string) *Policy {
	t.Helper()
	return rooted(t, by, "scopes:\n  r.example: {require: "+groups+more+"}\n")
}

// unreadable is a signature that could not be had.
func unreadable(name string) registry.Signature {
	d := describe("unreadable " + name)
	return registry.Signature{Subject: artifact, Descriptor: d, Err: fmt.Errorf("reading %s: %w", d.Digest, registry.ErrUnavailable)}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{}
	signed := map[string]registry.Signature{}
	for _, name := range []string{"a", "b", "c"} {
		by[name] = newSignatory(name)
		signed[name] = by[name].sign(t, signing{})
	}
	stranger := newSignatory("stranger")
	signed["stranger"] = stranger.sign(t, signing{})
	// The same key with a certificate under another root, and with another certificate under the same one.
	under := func(root *certtest.Authority, key *signatory, name string) *signatory {
		return &signatory{root, key.key, root.Chain(root.Leaf(key.key.Public(), name))}
	}
	signed["a's key under b"] = under(by["b"].root, by["a"], "a").sign(t, signing{})
	signed["a's key again"] = under(by["a"].root, by["a"], "another certificate").sign(t, signing{at: time.Now().Add(-time.Hour)})
	signed["a second"] = by["a"].under("second").sign(t, signing{})
	signed["late b"] = by["b"].sign(t, signing{at: time.Now().Add(-3 * time.Hour)})
	signed["c's other claim"] = by["c"].sign(t, signing{claims: []string{"2.0"}})
	signed["a's other claim"] = by["a"].sign(t, signing{claims: []string{"2.0"}})
	signed["unfetched"], signed["unfetched too"] = unreadable("1"), unreadable("2")
	broken := unreadable("3")
	broken.Err = fmt.Errorf("two layers: %w", registry.ErrMalformed)
	signed["malformed"] = broken

	const both = "[[a], [b]]"
	for _, row := range []struct {
		groups, more string
		signed       string // separated by "+"
		verdict      string
		reason       string
	}{
		{both, "", "a+b", Accepted, ""},
		{both, "", "b+stranger+a", Accepted, ""},
		{both, "", "a", Rejected, codeIncomplete},
		{both, "", "a+stranger", Rejected, codeIncomplete},
		{both, "", "stranger", Rejected, codeNoTrusted},
		{both, "", "", Rejected, codeUnsigned},
		{both, ", claims: tag", "a+b", Rejected, codeClaimsMissing},
		{both, "", "a+late b", Accepted, ""},
		{both, ", max-age: 1h", "a+late b", Rejected, codeTooOld},
		{"[[a], [{root: b, max-age: 1h}]]", "", "a+late b", Rejected, codeTooOld},
		{"[[a], [{root: b, max-age: 1h}]]", ", max-age: 10m", "a+b", Accepted, ""},

		// One key stands for one group, whatever certificates it has.
		{both, "", "a+a's key under b", Rejected, codeKeyTwice},
		{both, ", distinct: true", "a+a's key under b", Rejected, codeKeyTwice},
		{both, ", distinct: false", "a+a's key under b", Accepted, ""},
		{both, "", "a+a's key under b+b", Accepted, ""},
		{"[[a], [a]]", "", "a", Rejected, codeKeyTwice},
		{"[[a], [a]]", "", "a+a's key again", Rejected, codeKeyTwice},
		{"[[a], [a]]", "", "a+a second", Accepted, ""},
		{"[[a], [a]]", ", distinct: false", "a", Accepted, ""},
		{"[[a], [a]]", ", distinct: false", "b", Rejected, codeNoTrusted},

		// n of m by listing: two of three.
		{"[[a, b, c], [a, b, c]]", "", "a+c", Accepted, ""},
		{"[[a, b, c], [a, b, c]]", "", "c", Rejected, codeKeyTwice},
		{"[[a, b, c], [a, b, c]]", "", "a+a's key under b", Rejected, codeKeyTwice},
		{"[[a, b, c], [a, b, c], [a, b, c]]", "", "a+b+c", Accepted, ""},
		{"[[a, b, c], [a, b, c], [a, b, c]]", "", "a+b+a second", Accepted, ""},

		// Who takes the first that fits is wrong, in any order.
		{"[[a, b], [a]]", "", "a+b", Accepted, ""},
		{"[[a], [a, b]]", "", "a+b", Accepted, ""},
		{"[[a, b, c], [a, b], [a]]", "", "a+b+c", Accepted, ""},
		{"[[a, b], [b, c], [c, a]]", "", "a+b+c", Accepted, ""},
		{"[[a, b], [a, b], [a, b]]", "", "a+b+c", Rejected, codeKeyTwice},

		// What is wrong with the signature of a group that has none is the reason; what is wrong with one of a group that has another is not.
		{"[[a], [c]]", ", claims: if-present", "a+c's other claim", Rejected, codeNotCovered},
		{"[[a], [c]]", ", claims: if-present", "a+a's other claim", Rejected, codeIncomplete},
		{"[[a], [c]]", ", claims: if-present", "a+a's other claim+c", Accepted, ""},

		// Undetermined only as long as what could not be read could satisfy what is missing.
		{both, "", "a+unfetched", Undetermined, codeUnfetched},
		{both, "", "unfetched", Rejected, codeNoTrusted},
		{both, "", "unfetched+unfetched too", Undetermined, codeUnfetched},
		{both, ", distinct: false", "unfetched", Undetermined, codeUnfetched},
		{both, "", "a+b+unfetched", Accepted, ""},
		{both, "", "a+malformed", Rejected, codeIncomplete},
		{"[[a], [b], [c]]", "", "a+unfetched", Rejected, codeIncomplete},
		{"[[a], [b], [c]]", "", "a+b+unfetched", Undetermined, codeUnfetched},
		{"[[a], [a]]", "", "a+unfetched", Undetermined, codeUnfetched},
	} {
		var sigs []registry.Signature
		for _, name := range strings.FieldsFunc(row.signed, func(r rune) bool { return r == '+' }) {
			if _, ok := signed[name]; !ok {
				t.Fatal(name)
			}
			sigs = append(sigs, signed[name])
		}
		p := requiring(t, by, row.groups, row.more)
		for range 3 {
			got := p.Judge(ref(t, "r.example/x:1.0"), artifact, sigs, time.Now())
			if got.Verdict != row.verdict || got.Reason != row.reason {
				t.Errorf("%s%s, signed by %q: %s %s (%s), want %s %s", row.groups, row.more, row.signed, got.Verdict, got.Reason, got.Detail, row.verdict, row.reason)
			}
			checkGroups(t, got, !strings.Contains(row.more, "false"))
			rand.Shuffle(len(sigs), func(i, j int) { sigs[i], sigs[j] = sigs[j], sigs[i] })
		}
	}
}

// checkGroups wants what a report says of its groups to be true: each satisfied one by a signature that one of its roots accepts, and
// all of them exactly where the verdict is accepted.
func checkGroups(t *testing.T, r Report, different bool) {
	t.Helper()
	all, seen := true, map[digest.Digest]int{}
	for i, g := range r.Groups {
		all = all && g.Satisfied
		if !g.Satisfied {
			if g.Signature != "" || g.Core != "" || g.Root != "" {
				t.Errorf("group %d is not satisfied, by %s", i+1, g.Signature)
			}
			continue
		}
		at := slices.IndexFunc(r.Signatures, func(s Judged) bool { return s.Digest == g.Signature })
		if at < 0 || !slices.Contains(g.Roots, g.Root) || !slices.ContainsFunc(r.Signatures[at].AcceptedBy, func(a Acceptance) bool {
			return a.Root == g.Root && slices.Contains(a.Groups, i+1)
		}) || r.Signatures[at].Core != g.Core {
			t.Errorf("group %d (%v) is said to be satisfied by %s of root %s", i+1, g.Roots, g.Signature, g.Root)
		}
		if seen[g.Signature]++; different && seen[g.Signature] > 1 {
			t.Errorf("one signature stands for several groups: %+v", r.Groups)
		}
	}
	if (r.Verdict == Accepted) != all {
		t.Errorf("%s, and the groups are %+v", r.Verdict, r.Groups)
	}
}

// TestGroupsThatShareAKey: which groups a key would be needed for is told.
func TestGroupsThatShareAKey(t *testing.T) {
	t.Parallel()
	a := newSignatory("a")
	p := requiring(t, map[string]*signatory{"a": a, "b": newSignatory("b")}, "[[a], [b, a], [b]]", "")
	got := p.Judge(ref(t, "r.example/x:1.0"), artifact, []registry.Signature{a.sign(t, signing{})}, time.Now())
	wantReport(t, got, Rejected, codeIncomplete)
	if g := got.Groups; !g[0].Satisfied || g[1].Satisfied || !slices.Equal(g[1].Shared, []int{1}) || g[2].Shared != nil || !slices.Equal(g[1].Roots, []string{"a", "b"}) {
		t.Errorf("%+v", g)
	}
	if !strings.Contains(got.Detail, "group 3 (b)") {
		t.Error(got.Detail)
	}
}

// TestEightGroups: eight groups of which each root can stand for two, so that only one way of seating them is right.
func TestEightGroups(t *testing.T) {
	t.Parallel()
	const n = 8
	by := map[string]*signatory{}
	var groups []string
	var sigs []registry.Signature
	for i := range n {
		name := fmt.Sprintf("r%d", i)
		by[name] = newSignatory(name)
		sigs = append(sigs, by[name].sign(t, signing{}))
		groups = append(groups, fmt.Sprintf("[r%d, r%d]", i, min(i+1, n-1)))
	}
	p := requiring(t, by, "["+strings.Join(groups, ", ")+"]", "")
	for range 20 {
		rand.Shuffle(n, func(i, j int) { sigs[i], sigs[j] = sigs[j], sigs[i] })
		got := p.Judge(ref(t, "r.example/x:1.0"), artifact, sigs, time.Now())
		wantReport(t, got, Accepted, "")
		checkGroups(t, got, true)
		got = p.Judge(ref(t, "r.example/x:1.0"), artifact, sigs[1:], time.Now())
		if got.Verdict != Rejected || got.Reason != codeKeyTwice && got.Reason != codeIncomplete {
			t.Errorf("seven keys for eight groups: %s %s", got.Verdict, got.Reason)
		}
		checkGroups(t, got, true)
	}
}

// TestGroupsNarrowed: a root that the run is narrowed out of satisfies no group, and nothing unread could.
func TestGroupsNarrowed(t *testing.T) {
	t.Parallel()
	by := map[string]*signatory{"a": newSignatory("a"), "b": newSignatory("b")}
	p := requiring(t, by, "[[a], [b, a]]", "")
	sigs := []registry.Signature{by["a"].sign(t, signing{}), by["b"].sign(t, signing{})}
	for _, row := range []struct {
		only            string
		sigs            []registry.Signature
		verdict, reason string
	}{
		{"a", sigs, Rejected, codeKeyTwice},
		{"b", sigs, Rejected, codeIncomplete},
		{"b", append(slices.Clone(sigs), unreadable("1")), Rejected, codeIncomplete},
		{"a", append(slices.Clone(sigs), unreadable("1")), Undetermined, codeUnfetched},
	} {
		narrower, err := p.Narrow(Narrowing{OnlyRoots: []string{row.only}})
		if err != nil {
			t.Fatal(err)
		}
		got := narrower.Judge(ref(t, "r.example/x:1.0"), artifact, row.sigs, time.Now())
		wantReport(t, got, row.verdict, row.reason)
	}
}

// TestSeating holds the matching against trying every way.
func TestSeating(t *testing.T) {
	t.Parallel()
	for range 3000 {
		groups, keys := 1+rand.IntN(5), rand.IntN(6)
		claimants := make([][]claimant, groups)
		for g := range claimants {
			for k := range keys {
				if rand.IntN(3) == 0 {
					claimants[g] = append(claimants[g], claimant{fmt.Sprint(k % max(1, keys-1)), k}) // the last has the key of the first
				}
			}
		}
		taken, full := seatAll(claimants, false)
		used, seated := map[string]bool{}, 0
		for g, at := range taken {
			if at < 0 {
				continue
			}
			i := slices.IndexFunc(claimants[g], func(c claimant) bool { return c.at == at })
			if i < 0 || used[claimants[g][i].key] {
				t.Fatalf("%v: group %d has %d", claimants, g, at)
			}
			used[claimants[g][i].key] = true
			seated++
		}
		if want := most(claimants, map[string]bool{}); seated != want || full != (want == groups) {
			t.Fatalf("%v: %v, %v, of %d that can be", claimants, taken, full, want)
		}
		_, shared := seatAll(claimants, true)
		if shared != !slices.ContainsFunc(claimants, func(c []claimant) bool { return len(c) == 0 }) {
			t.Fatalf("%v: shared %v", claimants, shared)
		}
	}
}

// most is how many groups can be seated, by trying.
func most(groups [][]claimant, used map[string]bool) int {
	if len(groups) == 0 {
		return 0
	}
	best := most(groups[1:], used)
	for _, c := range groups[0] {
		if used[c.key] {
			continue
		}
		used[c.key] = true
		best = max(best, 1+most(groups[1:], used))
		delete(used, c.key)
	}
	return best
}

// TestUnsignedAccepted: where the policy says so nothing is asked, unless the run asks for more.
func TestUnsignedAccepted(t *testing.T) {
	t.Parallel()
	s := newSignatory("s")
	p := rooted(t, map[string]*signatory{"s": s}, "scopes:\n  r.example: [s]\n  r.example/free: {accept: unsigned}\n")
	broken := unreadable("1")
	broken.Err = errors.Join(registry.ErrMalformed)
	for _, sigs := range [][]registry.Signature{nil, {s.sign(t, signing{})}, {broken}, {unreadable("2")}} {
		got := p.Judge(ref(t, "r.example/free/x:1"), artifact, sigs, time.Now())
		wantReport(t, got, Accepted, "")
		if len(got.Signatures) != len(sigs) || slices.ContainsFunc(got.Signatures, func(j Judged) bool { return j.Accepted }) {
			t.Errorf("%+v", got.Signatures)
		}
	}
	for name, n := range map[string]Narrowing{
		"to a root": {OnlyRoots: []string{"s"}}, "to claims": {RequireClaim: true}, "to an age": {MaxAge: time.Hour}, "to algorithms": {Algorithms: []string{"ES256"}},
	} {
		narrower, err := p.Narrow(n)
		if err != nil {
			t.Fatal(err)
		}
		got := narrower.Judge(ref(t, "r.example/free/x:1"), artifact, []registry.Signature{s.sign(t, signing{claims: []string{"1"}})}, time.Now())
		if got.Verdict != Rejected || got.Reason != codeNoTrusted {
			t.Errorf("narrowed %s: %s %s", name, got.Verdict, got.Reason)
		}
		got = narrower.Judge(ref(t, "r.example/free/x:1"), artifact, nil, time.Now())
		wantReport(t, got, Rejected, codeUnsigned)
		got = narrower.Judge(ref(t, "r.example/free/x:1"), artifact, []registry.Signature{unreadable("3")}, time.Now())
		if got.Verdict != Rejected {
			t.Errorf("narrowed %s, with one that nobody can read: %s %s", name, got.Verdict, got.Reason)
		}
	}
}
