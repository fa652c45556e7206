package cmd

import (
	"fmt"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestRechainLimitOfAPlan: a dry run plans as many as a run would write, and says that there are more.
func TestRechainLimitOfAPlan(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	f.fill(10, "app")
	plan := f.want(0, f.all([]string{"app"}, append(f.chain(), "--limit", "7", "--jobs", "16", "--dry-run", "-o", "json")...)...)
	if got := plan.statuses(t); got["planned"] != 7 || got["later"] != 13 {
		t.Errorf("planned: %v", got)
	}
	if got := f.want(0, f.all([]string{"app"}, append(f.chain(), "--limit", "7", "--jobs", "16", "-o", "json")...)...).statuses(t); got["written"] != 7 || got["later"] != 0 {
		t.Errorf("written: %v", got)
	}
}

// TestRechainLimitCountsWhatIsWritten: two signatures that become one count once; what a policy refuses does not count, however many
// jobs wait for one another's room.
func TestRechainLimitCountsWhatIsWritten(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	d := f.artifact("twins", "1")
	f.signed("twins", d, "release", envelope.JWS, false)
	between := f.file("between.pem", string(certtest.PEM(
		f.root.IntermediateWith(f.old.Key, "Acme CA 3", certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(40*24*time.Hour))).Certificate)))
	f.want(0, "rechain", f.server.Host+"/twins:1", "--chain", between, "-q")
	f.signed("twins", d, "payments", envelope.COSE, false)
	got := f.want(0, append([]string{"rechain", f.server.Host + "/twins:1", "--limit", "2", "-o", "json"}, f.chain()...)...).statuses(t)
	if got["written"] != 2 || got["there"] != 1 || got["later"] != 0 || len(f.listed("twins", d)) != 5 {
		t.Errorf("of two that become one, and another: %v, %d listed", got, len(f.listed("twins", d)))
	}

	f.fill(20, "app")
	policy := f.file("policy.yaml", "version: 1\nroots: {r: {certificates: [root.pem], identities: [\"CN=release\"]}}\nscopes: {\"*\": [r]}\n")
	for i, want := range []int{10, 10, 0} {
		got := f.run(f.all([]string{"app"}, append(f.chain(), "--policy", policy, "--limit", "10", "--jobs", "32", "-o", "json")...)...)
		if n := got.statuses(t)["written"]; n != want {
			t.Errorf("run %d: %d written, want %d (exit %d)\n%s", i+1, n, want, got.code, got.err)
		}
	}
	for i := range 20 {
		if n := len(f.listed("app", f.artifact("app", fmt.Sprint("v", i)))); n != 3 {
			t.Errorf("v%d has %d signatures", i, n)
		}
	}
}

// TestQuota: who finds no room waits for what others may give back, and gets it.
func TestQuota(t *testing.T) {
	t.Parallel()
	q := newQuota(3)
	if n := q.take(5); n != 3 {
		t.Fatalf("took %d", n)
	}
	got := make(chan int)
	go func() { got <- q.take(2) }()
	select {
	case n := <-got:
		t.Fatalf("took %d where there was no room yet", n)
	case <-time.After(50 * time.Millisecond):
	}
	q.done(3, 1)
	if n := <-got; n != 2 || q.reached() {
		t.Errorf("took %d of what was given back; reached: %t", n, q.reached())
	}
	q.done(2, 2)
	if n := q.take(1); n != 0 || !q.spent() || !q.reached() {
		t.Errorf("took %d beyond the limit", n)
	}
	if n := newQuota(0).take(7); n != 7 {
		t.Errorf("without a limit: %d", n)
	}
}

// TestRechainAllFitsNothing: certificates that are for none of all signatures are an error, though each is passed over by itself.
func TestRechainAllFitsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, regtest.WithAPI)
	f.fill(2, "app")
	stranger := certtest.Root("nobody's root").Intermediate("nobody's CA")
	chain := stranger.Chain(stranger.Leaf(certtest.Key("P-256").Public(), "nobody"))
	f.server.Reset()
	got := f.want(3, f.all([]string{"app"}, "--chain", f.file("nobodys.pem", string(certtest.PEM(chain...))), "-o", "json")...)
	if r := got.reason(t); r != "leaf-key-differs" || got.statuses(t)["skipped"] != 4 || f.server.Writes() != 0 {
		t.Errorf("%s: %v", r, got.statuses(t))
	}
}
