package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/trust"
)

// stricter is why imprint refuses what notation accepts: each reason, with the mutations that alone may lead to it. Nothing else may.
var stricter = map[string]struct {
	why string
	by  []string
}{
	"envelope-malformed": {
		"One strict parser for each format: what two readers can read in two ways is no signature.",
		[]string{"V03 the payload twice", "V03 another payload before it", "V03 twice in protected", "V04 another payload, in another case", "V05 a further member",
			"V06 bits left over", "V06 a newline in the signature", "V06 a newline in the payload", "V10 crit in the unprotected header",
			"V19 33 as text, too", "V19 an integer longer than it need be", "a string of a length longer than it need be", "a byte too many", "a bit anywhere", "a byte anywhere",
			"a byte is missing"},
	},
	"payload-malformed": {
		"The payload is what is signed: no member of it may be read twice, or be unknown at its top.",
		[]string{"V03 two artifacts", "V03 two digests", "V04 a member in another case", "V04 targetArtifact in another case", "an unknown member of the payload"},
	},
	"attribute-unknown": {
		"Protected attributes that are not named like an extension may mean something to another reader: b64, kid, another case of a known name.",
		[]string{"V04 an attribute in another case", "V07 an attribute of a short name", "V07 b64", "an attribute without a name",
			"an unknown attribute of the Notary Project", "a verification plugin that is not critical"},
	},
	"critical-unknown": {
		"The specification: an unknown critical attribute must fail; notation looks only if a plugin is named.",
		[]string{"V09 an unknown critical attribute"},
	},
	"critical-invalid": {
		"RFC 7515 section 4.1.11: no name stands twice; and none stands there that the specification does not want there.",
		[]string{"V08 crit repeats", "V12 both times", "V12 both times, critical", "crit names the signing time", "V08 crit names alg"},
	},
	"time-invalid": {
		"A time is RFC 3339 to the letter, or whole seconds of CBOR; and each scheme has its own, never both.",
		[]string{"V11 a time with a comma", "V11 an hour of one digit", "V12 both times", "V12 both times, critical", "V19 a float as time"},
	},
	"signature-invalid": {
		"A salt of PSS is as long as the hash, in JWS as in COSE.",
		[]string{"V17 another salt"},
	},
	"chain-is-signed": {
		"A chain in the protected header could not be exchanged, and no other verifier looks for it there.",
		[]string{"V21 the chain is signed, too"},
	},
	"chain-malformed": {
		"At most sixteen certificates are read.",
		[]string{"seventeen"},
	},
	"certificate-weak": {
		"Keys below RSA-2048 and P-256 and signatures by SHA-1 prove nothing, wherever they stand in the chain, and what has no serial number cannot be revoked.",
		[]string{"X18 serial number zero", "X07 an issuer's key is RSA-1024", "X07 an issuer's key is P-224", "X07 signed with SHA-1"},
	},
	"root-not-trusted": {
		"A pinned certificate counts where its pin says that it stands, and by default that is last.",
		[]string{"X03 the intermediate, as a root", "pin intermediate, of the root", "pin leaf, of the root"},
	},
	"timestamp-inexact": {
		"A timestamp that is for any time within minutes is for none.",
		[]string{"X10 a timestamp accurate to ten minutes"},
	},
	"timestamp-in-the-future": {
		"A timestamp from the future is a lie, or its authority's clock is.",
		[]string{"X10 a timestamp in the future"},
	},
	"algorithm-not-allowed": {
		"The policy's own: notation has no word for it.",
		[]string{"algorithms without ours"},
	},
	"too-old": {
		"The policy's own: notation has no word for it.",
		[]string{"a short age", "a long age"},
	},
	"signed-in-the-future": {
		"What is yet to come proves no age and no authority's time.",
		[]string{"a short age", "a long age", "signed in the future"},
	},
	"claims-missing": {
		"The policy's own: notation has no word for it.",
		[]string{"claims by tag", "claims by name"},
	},
	"claim-not-covered": {
		"The signer says for which names he signed; notation does not read it.",
		[]string{"claims of another tag", "claims by name"},
	},
	"claims-malformed": {
		"Claims that cannot be read cover nothing.",
		[]string{"claims that are none"},
	},
	"beyond-spec": {
		"The policy asks for more than the specification does: strict-x509.",
		[]string{"strict-x509", "X07 signed with SHA-1", "X06 an unknown critical extension", "X06 names are constrained and violated", "X06 an issuer is for servers alone",
			"the leaf is for anything", "X18 serial number zero", "X05 basic constraints that are not critical"},
	},
	"policy-root-invalid": {
		"A pin that no chain can have is a mistake in the policy, which does not load: notation has no pins.",
		[]string{"pin intermediate, of the root", "pin leaf, of the root"},
	},
	"rejected-by-policy": {
		"The policy's own: notation has no word for it.",
		[]string{"reject"},
	},
}

// alone is what imprint says of a suit that wears such a mutation and no other: without it these checks could go, since notation has none
// of them.
var alone = map[string]string{
	"a short age": "too-old", "algorithms without ours": "algorithm-not-allowed", "reject": "rejected-by-policy",
	"claims by tag": "claims-missing", "claims by name": "claims-missing", "claims of another tag": "claim-not-covered", "claims that are none": "claims-malformed",
	"V03 two artifacts": "payload-malformed", "V04 a member in another case": "payload-malformed", "an unknown member of the payload": "payload-malformed",
	"V03 the payload twice": "envelope-malformed", "V05 a further member": "envelope-malformed", "V06 a newline in the signature": "envelope-malformed",
	"V10 crit in the unprotected header": "envelope-malformed", "V19 33 as text, too": "envelope-malformed",
	"V07 b64": "attribute-unknown", "an unknown attribute of the Notary Project": "attribute-unknown",
	"V08 crit repeats": "critical-invalid", "V09 an unknown critical attribute": "critical-unknown", "V21 the chain is signed, too": "chain-is-signed",
	"V11 a time with a comma": "time-invalid", "V19 a float as time": "time-invalid", "V17 another salt": "signature-invalid", "seventeen": "chain-malformed",
	"X07 an issuer's key is RSA-1024": "certificate-weak", "X07 an issuer's key is P-224": "certificate-weak",
}

// unread are names of leaves that notation cannot compare with any identity, so that a policy with identities has no equivalent: what
// is asked of them then is that nothing else is in the way.
var unread = []string{"two units", "an attribute of an unknown type", "an organisation that begins with =#"}

// A tally counts what happened.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(what ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	for _, w := range what {
		c.n[w]++
	}
}

// TestDifferential: imprint accepts no signature that notation-go refuses under the same policy, and what it refuses alone it refuses
// for a reason on the list: for generated chains, envelopes and policies with up to two mutations each. IMPRINT_SEED draws others;
// IMPRINT_CASE shows one of them.
func TestDifferential(t *testing.T) {
	t.Parallel()
	cases, seed := 10_000, uint64(6)
	if raced {
		cases = 2_000
	}
	only := -1
	if text := os.Getenv("IMPRINT_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	if text := os.Getenv("IMPRINT_CASE"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		only = n
	}
	t.Logf("seed %d", seed)
	w := newWardrobe()
	var seen tally
	began := time.Now()
	const workers = 4
	t.Run("cases", func(t *testing.T) {
		for part := range workers {
			t.Run(strconv.Itoa(part), func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "policy.yaml")
				for i := part; i < cases; i += workers {
					if only < 0 || only == i {
						w.compare(t, rand.New(rand.NewPCG(seed, uint64(i))), i, fmt.Sprintf("seed %d case %d", seed, i), file, &seen)
					}
				}
			})
		}
	})
	if only >= 0 {
		return
	}
	for what, least := range map[string]int{"both accept": cases / 5, "both refuse": cases / 5, "imprint alone refuses": cases / 50, "unbent": cases / 16} {
		if seen.n[what] < least {
			t.Errorf("%s: %d of %d cases, want %d", what, seen.n[what], cases, least)
		}
	}
	for code := range stricter {
		if seen.n["stricter: "+code] == 0 && !raced {
			t.Errorf("the list of reasons has %s, which was never given", code)
		}
	}
	for _, name := range unread {
		if seen.n["unread: "+name] == 0 && !raced {
			t.Errorf("the list of names that notation cannot read has %q, which it read", name)
		}
	}
	t.Logf("%d cases in %s", cases, time.Since(began).Round(time.Millisecond))
	for _, what := range slices.Sorted(maps.Keys(seen.n)) {
		t.Logf("%6d %s", seen.n[what], what)
	}
}

// dress draws a suit with up to two mutations. Of the first cases each wears one mutation alone, until all had their turn several times.
func (w *wardrobe) dress(r *rand.Rand, i int) *suit {
	const turns = 4
	if all := slices.Concat(chainMutations, envelopeMutations, policyMutations); i < turns*len(all) {
		m := all[i%len(all)]
		for range 1000 {
			if s := w.draw(r); m.bend(s) {
				s.worn = []string{m.name}
				return s
			}
		}
		panic("differential: nobody can wear " + m.name)
	}
	s := w.draw(r)
	n := []int{0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2}[r.IntN(12)]
	for len(s.worn) < n {
		list := [][]mutation{chainMutations, envelopeMutations, envelopeMutations, policyMutations}[r.IntN(4)]
		m := list[r.IntN(len(list))]
		if !slices.Contains(s.worn, m.name) && m.bend(s) {
			s.worn = append(s.worn, m.name)
		}
	}
	return s
}

// compare makes a case and asks both.
func (w *wardrobe) compare(t *testing.T, r *rand.Rand, i int, name, file string, seen *tally) {
	t.Helper()
	s := w.dress(r, i)
	issued := s.issue()
	s.outfit.roots = trustsOnly(issued[len(issued)-1])
	for _, bend := range s.policyBends {
		bend(&s.outfit, issued)
	}
	chain := issued
	for _, list := range s.listed {
		chain = list(chain)
	}
	mediaType, b := orElse(s.mediaType, s.format), s.seal(chain)

	notation := s.outfit.notation().Verify(t.Context(), differentialRepo, differentialSubject, judge.Signature{MediaType: mediaType, Envelope: b})
	verdict, code := s.imprint(t, file, mediaType, b)
	for _, m := range s.worn {
		seen.add("mutation: " + m)
	}
	if len(s.worn) == 0 {
		seen.add("unbent")
		if notation != nil || verdict != trust.Accepted {
			t.Errorf("%s: unbent, imprint says %s %s, notation %v", name, verdict, code, notation)
		}
	}
	show := func() string {
		var list strings.Builder
		for _, c := range chain {
			fmt.Fprintf(&list, "\n  %s", base64.StdEncoding.EncodeToString(c.Raw))
		}
		return fmt.Sprintf("%q\n%s %s\n%s", s.worn, mediaType, base64.StdEncoding.EncodeToString(b), s.outfit.imprint())
	}
	if len(s.worn) == 1 && alone[s.worn[0]] != "" && alone[s.worn[0]] != code {
		t.Errorf("%s: imprint says %s %s, want %s\n%s", name, verdict, code, alone[s.worn[0]], show())
	}
	accepted := verdict == trust.Accepted
	switch {
	case accepted && notation != nil && slices.ContainsFunc(s.worn, func(m string) bool { return slices.Contains(unread, m) }) &&
		strings.Contains(notation.Error(), "error while parsing the certificate subject"):
		seen.add("notation cannot read the name")
		for _, m := range s.worn {
			seen.add("unread: " + m)
		}
		s.outfit.identities = nil
		if err := s.outfit.notation().Verify(t.Context(), differentialRepo, differentialSubject, judge.Signature{MediaType: mediaType, Envelope: b}); err != nil {
			t.Errorf("%s: imprint accepts, and whatever the name is notation says %v\n%s", name, err, show())
		}
	case accepted && notation != nil:
		t.Errorf("%s: imprint accepts, notation says %v\n%s", name, notation, show())
	case accepted:
		seen.add("both accept")
	case notation != nil:
		seen.add("both refuse", "reason: "+code)
	default:
		seen.add("imprint alone refuses", "stricter: "+code)
		if list := stricter[code].by; !slices.ContainsFunc(s.worn, func(m string) bool { return slices.Contains(list, m) }) {
			t.Errorf("%s: notation accepts, imprint refuses for %s, to which these mutations are not known to lead\n%s", name, code, show())
		}
	}
}

// imprint says what imprint says; a policy that does not load refuses everything.
func (s *suit) imprint(t *testing.T, file, mediaType string, b []byte) (verdict, code string) {
	t.Helper()
	if err := os.WriteFile(file, s.outfit.imprint(), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := trust.Load(file)
	if err != nil {
		var reason interface{ Reason() string }
		if !errors.As(err, &reason) {
			t.Fatalf("%v has no reason", err)
		}
		return trust.Rejected, reason.Reason()
	}
	ref, err := registry.ParseQualified(differentialRepo + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	m := registry.ByArtifactType.Manifest(differentialSubject, mediaType, b, nil)
	r := p.Judge(ref, differentialSubject, []registry.Signature{{Subject: differentialSubject, Descriptor: m.Descriptor, Manifest: m, MediaType: mediaType, Envelope: b}}, time.Now())
	code = r.Reason
	if code == "no-trusted-signature" {
		code = r.Signatures[0].Reason
	}
	return r.Verdict, code
}
