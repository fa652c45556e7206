package certchain

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// permutations calls f with every order of certs.
func permutations(certs []*x509.Certificate, f func([]*x509.Certificate)) {
	if len(certs) == 0 {
		f(nil)
		return
	}
	for i := range certs {
		rest := append(append([]*x509.Certificate(nil), certs[:i]...), certs[i+1:]...)
		permutations(rest, func(p []*x509.Certificate) { f(append([]*x509.Certificate{certs[i]}, p...)) })
	}
}

func TestA06K08OrderFindsAnyOrder(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 5; n++ {
		_, certs := certtest.ChainOf(n, "P-256")
		permutations(certs, func(p []*x509.Certificate) {
			got, err := Order(p)
			if err != nil {
				t.Fatalf("chain of %d: %v", n, err)
			}
			if !got.Equal(certs) {
				t.Fatalf("chain of %d: wrong order", n)
			}
		})
	}
}

func TestA06OrderRefuses(t *testing.T) {
	t.Parallel()
	r := certtest.Root("root")
	i := r.Intermediate("intermediate")
	key := certtest.Key("P-256")
	leaf := i.Leaf(key.Public(), "leaf")
	stranger := certtest.Root("stranger").Certificate
	namesake := r.Intermediate("intermediate").Certificate // same name, another key
	other := i.Leaf(certtest.Key("P-256").Public(), "other leaf")
	a, b := loop(t)
	onLoop := a.Leaf(key.Public(), "leaf on a loop")
	rc := r.Certificate
	for _, tt := range []struct {
		name  string
		certs []*x509.Certificate
		rule  string
		names string // part of the error
		is    error
	}{
		{"nothing", nil, "no-certificates", "", nil},
		{"A06 without root", Chain{leaf, i.Certificate}, "incomplete", "CN=intermediate", ErrIncomplete},
		{"A06 without intermediate", Chain{leaf, rc}, "incomplete", "CN=leaf", ErrIncomplete},
		{"A06 unrelated root", Chain{leaf, i.Certificate, stranger, rc}, "unrelated", "CN=stranger", nil},
		{"A06 unrelated leaf", Chain{leaf, i.Certificate, other, rc}, "unrelated", "leaf", nil},
		{"A06 duplicate root", Chain{rc, leaf, i.Certificate, rc}, "duplicate", "CN=root", nil},
		{"A06 loop of cross-signs", Chain{onLoop, a.Certificate, b.Certificate}, "loop", "CN=", nil},
		{"K03 intermediate of the same name", Chain{leaf, namesake, rc}, "not-issued-by", "CN=leaf", ErrNotIssuedBy},
		{"too many", make17(t), "too-many-certificates", "17", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			n := 0
			permutations(tt.certs[:min(len(tt.certs), 4)], func(p []*x509.Certificate) {
				if n++; len(tt.certs) > 4 {
					p = tt.certs
				}
				_, err := Order(p)
				if got := ruleOf(t, err); got != tt.rule {
					t.Errorf("rule %q, want %q: %v", got, tt.rule, err)
				}
				if err != nil && !strings.Contains(err.Error(), tt.names) {
					t.Errorf("%v does not name %q", err, tt.names)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%v does not wrap %v", err, tt.is)
				}
				if tt.rule != "duplicate" && err != nil {
					seen[err.Error()] = true
				}
			})
			if len(seen) > 1 {
				t.Errorf("the error depends on the order: %v", seen)
			}
		})
	}
}

// crossSign has by issue a certificate for a's name and key.
func crossSign(a, by *certtest.Authority) *certtest.Authority {
	c := by.IntermediateWith(a.Key, "", certtest.Subject(nameOf(a.Certificate)))
	return &certtest.Authority{Certificate: c.Certificate, Key: a.Key, Parent: by}
}

func nameOf(c *x509.Certificate) pkix.Name {
	n := c.Subject
	n.Names = nil
	return n
}

// loop makes two authorities that issued each other and nothing else: no root.
func loop(t testing.TB) (a, b *certtest.Authority) {
	t.Helper()
	rootA, rootB := certtest.Root("a"), certtest.Root("b")
	return crossSign(rootA, rootB), crossSign(rootB, rootA)
}

func TestOrderCrossSigned(t *testing.T) {
	t.Parallel()
	old, young := certtest.Root("old root"), certtest.Root("young root")
	bridge := crossSign(young, old) // young's key under old
	i := young.Intermediate("intermediate")
	leaf := i.Leaf(certtest.Key("P-256").Public(), "leaf")
	want := Chain{leaf, i.Certificate, bridge.Certificate, old.Certificate}
	got, err := Order([]*x509.Certificate{old.Certificate, bridge.Certificate, leaf, i.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(want) {
		t.Error("not over the bridge")
	}
	if err := got.Check(time.Now()); err != nil {
		t.Error(err)
	}
	_, err = Order(append(want, young.Certificate))
	if got := ruleOf(t, err); got != "unrelated" {
		t.Errorf("both roots: rule %q, want unrelated", got)
	}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := certtest.Key("P-256")
	r := certtest.Root("root")
	i := r.Intermediate("intermediate")
	renewed := r.IntermediateWith(i.Key, "intermediate", certtest.Valid(now.Add(-time.Hour), now.Add(9*365*24*time.Hour)))
	leaf := i.Leaf(key.Public(), "leaf", certtest.Valid(now.Add(-time.Hour), now.Add(8*365*24*time.Hour)))
	reissued := i.Leaf(key.Public(), "leaf", certtest.Valid(now.Add(-time.Hour), now.Add(9*365*24*time.Hour)))
	spent := certtest.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour))
	spentRoot := certtest.Root("spent root", spent)
	namesake := r.Intermediate("intermediate")
	root2 := certtest.Root("second root")
	bridge := crossSign(i, root2)
	stranger := certtest.Root("stranger").Certificate
	a, b := loop(t)
	onLoop := a.Leaf(key.Public(), "leaf")
	rc := r.Certificate
	narrow := r.Intermediate("narrow", func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"evil.example"} })
	outside := narrow.Leaf(key.Public(), "leaf", func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} })
	for _, tt := range []struct {
		name string
		pool []*x509.Certificate
		want Chain
		rule string
		is   error
	}{
		{name: "K08 shuffled", pool: Chain{rc, leaf, i.Certificate}, want: Chain{leaf, i.Certificate, rc}},
		{name: "K09 unrelated, duplicated and a second root", pool: Chain{rc, stranger, leaf, rc, i.Certificate, root2.Certificate, leaf}, want: Chain{leaf, i.Certificate, rc}},
		{name: "the intermediate that holds longest", pool: Chain{leaf, i.Certificate, renewed.Certificate, rc}, want: Chain{leaf, renewed.Certificate, rc}},
		{name: "the leaf that holds longest", pool: Chain{leaf, reissued, renewed.Certificate, rc}, want: Chain{reissued, renewed.Certificate, rc}},
		{name: "K05 cross-signed to a second root", pool: Chain{leaf, bridge.Certificate, root2.Certificate}, want: Chain{leaf, bridge.Certificate, root2.Certificate}},
		{name: "self-signed leaf", pool: Chain{stranger, certtest.SelfSigned(key, "alone")}, want: nil},
		{name: "K01 nothing holds the key", pool: Chain{rc, i.Certificate, stranger}, rule: "key-mismatch", is: ErrKeyMismatch},
		{name: "nothing at all", rule: "no-certificates"},
		{name: "K03 intermediate of the same name", pool: Chain{leaf, namesake.Certificate, rc}, rule: "not-issued-by", is: ErrNotIssuedBy},
		{name: "K07 no root", pool: Chain{leaf, i.Certificate}, rule: "incomplete", is: ErrIncomplete},
		{name: "K07 no intermediate", pool: Chain{leaf, rc}, rule: "incomplete", is: ErrIncomplete},
		{name: "K06 root expired", pool: Chain{spentRoot.Leaf(key.Public(), "leaf"), spentRoot.Certificate}, rule: "expired"},
		{name: "K06 leaf not yet valid", pool: Chain{i.Leaf(key.Public(), "leaf", certtest.Valid(now.Add(time.Hour), now.Add(2*time.Hour))), i.Certificate, rc}, rule: "not-yet-valid"},
		{name: "K06 expired beside incomplete", pool: Chain{spentRoot.Leaf(key.Public(), "leaf"), spentRoot.Certificate, leaf}, rule: "expired"},
		{name: "A06 loop of cross-signs", pool: Chain{onLoop, a.Certificate, b.Certificate}, rule: "loop"},
		{name: "K04 name constraints", pool: Chain{outside, narrow.Certificate, rc}, rule: "name-constraints"},
		{name: "the chain that passes, though another holds longer", pool: Chain{outside, narrow.Certificate, leaf, i.Certificate, rc}, want: Chain{leaf, i.Certificate, rc}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			texts := map[string]bool{}
			for range 6 {
				rand.Shuffle(len(tt.pool), func(i, j int) { tt.pool[i], tt.pool[j] = tt.pool[j], tt.pool[i] })
				got, err := Build(key.Public(), tt.pool, now)
				if rule := ruleOf(t, err); rule != tt.rule {
					t.Fatalf("rule %q, want %q: %v", rule, tt.rule, err)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%v does not wrap %v", err, tt.is)
				}
				if err != nil {
					texts[err.Error()] = true
				} else if tt.want != nil && !got.Equal(tt.want) {
					t.Fatalf("got %v", got.Describe())
				} else if err := got.Check(now); err != nil {
					t.Error(err)
				}
			}
			if len(texts) > 1 {
				t.Errorf("the error depends on the order: %v", texts)
			}
		})
	}
}

// Ten names, each with three cross-signed certificates: 3^10 paths. The search gives up and says so.
func TestOrderFor(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := certtest.Key("P-256")
	r := certtest.Root("root")
	i := r.Intermediate("intermediate")
	rc := r.Certificate
	spent := certtest.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour))
	leaf := i.Leaf(key.Public(), "leaf")
	old := i.Leaf(key.Public(), "leaf", spent)
	longer := i.Leaf(key.Public(), "leaf", certtest.Valid(now.Add(-time.Hour), now.Add(2*365*24*time.Hour)))
	other := i.Leaf(certtest.Key("P-256").Public(), "another key's leaf")
	server := i.Leaf(key.Public(), "server", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for _, tt := range []struct {
		name  string
		certs []*x509.Certificate
		want  Chain
		check string // the rule that the chain breaks now
		is    error
	}{
		{name: "the leaf for the key, of several", certs: Chain{other, rc, leaf, i.Certificate, other}, want: Chain{leaf, i.Certificate, rc}},
		{name: "the one that holds longest", certs: Chain{rc, leaf, i.Certificate, longer}, want: Chain{longer, i.Certificate, rc}},
		{name: "a valid one beside an old one", certs: Chain{rc, old, i.Certificate, leaf}, want: Chain{leaf, i.Certificate, rc}},
		{name: "one that fits beside one for servers", certs: Chain{rc, server, i.Certificate, old}, want: Chain{old, i.Certificate, rc}, check: "expired"},
		{name: "an old one alone", certs: Chain{rc, old, i.Certificate}, want: Chain{old, i.Certificate, rc}, check: "expired"},
		{name: "one that breaks a rule alone", certs: Chain{i.Certificate, server, rc}, want: Chain{server, i.Certificate, rc}, check: "leaf-extended-key-usage"},
		{name: "K07 no root", certs: Chain{leaf, i.Certificate, other}, is: ErrIncomplete},
		{name: "K03 another authority of the name", certs: Chain{leaf, r.Intermediate("intermediate").Certificate, rc}, is: ErrNotIssuedBy},
		{name: "K01 no leaf for the key", certs: Chain{other, i.Certificate, rc}, is: ErrKeyMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := OrderFor(key.Public(), tt.certs, now)
			if tt.is != nil {
				if got != nil || !errors.Is(err, tt.is) {
					t.Errorf("%v, want %v", err, tt.is)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(tt.want) {
				t.Errorf("got %v", got.Describe())
			}
			if rule := ruleOf(t, got.Check(now)); rule != tt.check {
				t.Errorf("the chain breaks %q now, want %q", rule, tt.check)
			}
		})
	}
	for name, certs := range map[string][]*x509.Certificate{"none": nil, "a nil one": {leaf, nil}} {
		if got, err := OrderFor(key.Public(), certs, now); got != nil || err == nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := OrderFor(nil, Chain{leaf, i.Certificate, rc}, now); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("without a key: %v", err)
	}
}

func TestBuildBoundsTheSearch(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	var pool []*x509.Certificate
	top := certtest.Root("level 0")
	pool = append(pool, top.Certificate)
	for range 10 {
		next := certtest.Key("P-256")
		var one *certtest.Authority
		for range 3 {
			one = top.IntermediateWith(next, "level")
			pool = append(pool, one.Certificate)
		}
		top = one
	}
	pool = append(pool, top.Leaf(key.Public(), "leaf"))
	_, err := Build(key.Public(), pool, time.Now())
	if got := ruleOf(t, err); got != "too-complex" {
		t.Errorf("rule %q, want too-complex", got)
	}
}

// unusable is a signer that is only a public key.
type unusable struct{ crypto.PublicKey }

func (u unusable) Public() crypto.PublicKey { return u.PublicKey }
func (u unusable) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("it cannot sign")
}
