package trust

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	reference "github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/fetch"
	"github.com/imprint-oci/imprint/trust/revocation"
	"github.com/imprint-oci/imprint/trust/revtest"
)

func authorityOf(t testing.TB, a *certtest.Authority) *revtest.CA {
	ca := revtest.New(a)
	t.Cleanup(ca.Stop)
	return ca
}

// chainOf issues a leaf and returns its chain.
func chainOf(ca *revtest.CA, edits ...certtest.Edit) certchain.Chain {
	return ca.Chain(ca.Leaf(certtest.Key("P-256").Public(), "release", edits...))
}

func ruled(t testing.TB, check string, network bool, files ...[]byte) *revoking {
	t.Helper()
	r := &revoking{check: check, network: network, files: len(files) > 0}
	for i, b := range files {
		lists, err := revocation.ParseLists(fmt.Sprintf("crl/%d.crl", i), b)
		if err != nil {
			t.Fatal(err)
		}
		r.lists = append(r.lists, lists...)
	}
	return r
}

// plain goes out without a guard: the kit is on this machine.
func plain() *http.Client {
	return fetch.New(fetch.Options{AllowPrivate: true, Stall: 300 * time.Millisecond}).HTTP()
}

// standingOf has the rule judge a chain, asking src if it is worth it, and returns the status and the code.
func standingOf(t testing.TB, src *Sources, rule *revoking, chain certchain.Chain, proof time.Time) (*Revocation, string, string) {
	t.Helper()
	c := court{policy: &Policy{}, now: time.Now()}
	found, code, detail, ask := c.revocation(rule, chain, false, proof)
	if ask {
		c.evidence.revocation = src.revocations(t.Context(), []question{{rule: rule, chain: chain, at: proof}}, c.now)
		found, code, detail, ask = c.revocation(rule, chain, false, proof)
		if ask {
			t.Error("it would ask forever")
		}
	}
	return found, code, detail
}

// listLies are what each wrong list says of a good and of a revoked leaf.
var listLies = []struct {
	name          string
	lie           revtest.Lie
	good, revoked string // status; "load": it is no list at all
	why           string // part of what is told of the good one
}{
	{"works", revtest.Works, "good", "revoked", ""},
	{"in PEM", revtest.InPEM, "good", "revoked", ""},
	{"of users", revtest.UsersOnly, "good", "revoked", ""},
	{"of the point that the certificate names", revtest.OwnPoint, "good", "revoked", ""},
	{"wrong issuer", revtest.OtherIssuer, "unknown", "unknown", ""},
	{"forged: same name, other key", revtest.Forged, "unknown", "unknown", "did not sign it"},
	{"expired", revtest.Stale, "unknown", "revoked", "it held until"},
	{"not yet valid", revtest.Future, "unknown", "revoked", "yet to come"},
	{"without an end", revtest.NoNextUpdate, "unknown", "revoked", "until when"},
	{"delta without base", revtest.Delta, "unknown", "revoked", "delta list"},
	{"base without its delta", revtest.NamesDeltaLost, "unknown", "revoked", "delta"},
	{"indirect", revtest.Indirect, "unknown", "unknown", "indirect"},
	{"unknown critical extension", revtest.UnknownExt, "unknown", "unknown", "critical extension"},
	{"unknown critical extension of an entry", revtest.UnknownEntryExt, "unknown", "unknown", "critical extension"},
	{"SHA-1", revtest.SHA1, "unknown", "unknown", "SHA1"},
	{"of authorities", revtest.AuthoritiesOnly, "unknown", "unknown", ""},
	{"of attribute certificates", revtest.AttributesOnly, "unknown", "unknown", "attribute"},
	{"of another point", revtest.OtherPoint, "unknown", "unknown", "another distribution point"},
	{"for some reasons", revtest.SomeReasons, "unknown", "revoked", "some reasons"},
	{"an extension twice", revtest.DoubleExt, "load", "load", "twice"},
	{"bytes behind it", revtest.Trailing, "load", "load", ""},
	{"garbage", revtest.Garbage, "load", "load", ""},
}

// TestX13Lists: nothing that is wrong with a list in a file makes a certificate good.
func TestX13Lists(t *testing.T) {
	t.Parallel()
	for _, tt := range listLies {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ca := authorityOf(t, certtest.Root("root"))
			good, revoked := chainOf(ca, ca.NamesList()), chainOf(ca, ca.NamesList())
			ca.Revoke(revoked.Leaf(), revtest.Revoked{Reason: revtest.KeyCompromise})
			ca.Lie(tt.lie)
			if tt.good == "load" {
				if _, err := revocation.ParseLists("a.crl", ca.List()); err == nil || !strings.Contains(err.Error(), tt.why) {
					t.Errorf("it loads: %v", err)
				}
				return
			}
			rule := ruled(t, checkEnforce, false, ca.List())
			for _, c := range []struct {
				chain certchain.Chain
				want  string
			}{{good, tt.good}, {revoked, tt.revoked}} {
				found, code, detail := standingOf(t, &Sources{}, rule, c.chain, time.Time{})
				wantStanding(t, found, code, detail, c.want)
			}
			if _, _, detail := standingOf(t, &Sources{}, rule, good, time.Time{}); !strings.Contains(detail, tt.why) {
				t.Errorf("it says %q, want %q in it", detail, tt.why)
			}
		})
	}
}

func wantStanding(t testing.TB, found *Revocation, code, detail, want string) {
	t.Helper()
	codes := map[string]string{"good": "", "not-revocable": "", "not-checked": "", "revoked": codeRevoked, "unknown": codeRevocationUnknown}
	if found.Status != want || code != codes[want] {
		t.Errorf("it is %s (%q: %s), want %s", found.Status, code, detail, want)
	}
	if (code == "") != (detail == "") {
		t.Errorf("code %q, and it says %q", code, detail)
	}
}

// networkLies are answers that are wrong by the way they come.
var networkLies = []struct {
	name string
	lie  revtest.Lie
}{
	{"206", revtest.Status206}, {"404", revtest.Status404}, {"500", revtest.Status500}, {"HTML", revtest.HTML}, {"nothing", revtest.Empty},
	{"cut off", revtest.Cut}, {"500 MB", revtest.Huge}, {"no answer", revtest.Hangs}, {"down", revtest.Down}, {"redirect to a file", revtest.Redirects},
}

// askedOf returns what asks of a chain that is good and of one that is revoked, which name where to ask, somebody who lies.
func askedOf(t *testing.T, names func(*revtest.CA) certtest.Edit) func(name string, lie revtest.Lie, good, revoked string) {
	return func(name string, lie revtest.Lie, good, revoked string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := authorityOf(t, certtest.Root("root"))
			ca.RedirectTo("file:///etc/passwd")
			chain, withdrawn := chainOf(ca, names(ca)), chainOf(ca, names(ca))
			ca.Revoke(withdrawn.Leaf(), revtest.Revoked{Reason: revtest.KeyCompromise})
			ca.Lie(lie)
			src := &Sources{HTTP: plain()}
			for _, c := range []struct {
				chain certchain.Chain
				want  string
			}{{chain, good}, {withdrawn, revoked}} {
				found, code, detail := standingOf(t, src, ruled(t, checkEnforce, true), c.chain, time.Time{})
				wantStanding(t, found, code, detail, c.want)
			}
		})
	}
}

// TestX13ListsOverTheNetwork: the same, fetched from where the certificate says.
func TestX13ListsOverTheNetwork(t *testing.T) {
	t.Parallel()
	run := askedOf(t, (*revtest.CA).NamesList)
	for _, tt := range listLies {
		if tt.good == "load" {
			tt.good, tt.revoked = "unknown", "unknown"
		}
		if tt.lie == revtest.InPEM { // it has to be DER there
			tt.good, tt.revoked = "unknown", "unknown"
		}
		run(tt.name, tt.lie, tt.good, tt.revoked)
	}
	run("with its delta", revtest.NamesDelta, "good", "revoked")
	run("that is its own delta", revtest.NamesItself, "unknown", "revoked")
	for _, tt := range networkLies {
		run(tt.name, tt.lie, "unknown", "unknown")
	}
}

// answerLies are what each wrong answer says of a good and of a revoked leaf.
var answerLies = []struct {
	name          string
	lie           revtest.Lie
	good, revoked string
}{
	{"works", revtest.Works, "good", "revoked"},
	{"by a responder of the issuer", revtest.Delegated, "good", "revoked"},
	{"without a nonce", revtest.NoNonce, "good", "revoked"},
	{"with a bare nonce", revtest.BareNonce, "good", "revoked"},
	{"unauthorised responder", revtest.Unauthorised, "unknown", "unknown"},
	{"responder whose certificate expired", revtest.DelegateExpired, "unknown", "unknown"},
	{"responder of another authority", revtest.DelegateForeign, "unknown", "unknown"},
	{"responder of an authority of the same name", revtest.DelegateForged, "unknown", "unknown"},
	{"forged", revtest.Forged, "unknown", "unknown"},
	{"stale", revtest.Stale, "unknown", "revoked"},
	{"not yet valid", revtest.Future, "unknown", "revoked"},
	{"without an end", revtest.NoNextUpdate, "unknown", "revoked"},
	{"nonce mismatch", revtest.WrongNonce, "unknown", "unknown"},
	{"unknown", revtest.UnknownStatus, "unknown", "unknown"},
	{"tryLater", revtest.TryLater, "unknown", "unknown"},
	{"unauthorized", revtest.Unauthorized, "unknown", "unknown"},
	{"reply for other serial", revtest.OtherSerial, "unknown", "unknown"},
	{"reply for another issuer's", revtest.OtherName, "unknown", "unknown"},
	{"reply for another key of the issuer's name", revtest.OtherKey, "unknown", "unknown"},
	{"responder with a weak key", revtest.DelegateWeak, "unknown", "unknown"},
	{"responder whose key does not sign", revtest.DelegateNoSign, "unknown", "unknown"},
	{"unknown critical extension", revtest.UnknownExt, "unknown", "unknown"},
	{"SHA-1", revtest.SHA1, "unknown", "unknown"},
	{"garbage", revtest.Garbage, "unknown", "unknown"},
}

func TestX14Answers(t *testing.T) {
	t.Parallel()
	run := askedOf(t, (*revtest.CA).NamesResponder)
	for _, tt := range answerLies {
		run(tt.name, tt.lie, tt.good, tt.revoked)
	}
	for _, tt := range networkLies {
		run(tt.name, tt.lie, "unknown", "unknown")
	}
}

// TestX14ListsWhereResponderSaysNothing: the order is a responder, then lists; and who says nothing does not hide who says revoked.
func TestX14ListsWhereResponderSaysNothing(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	responder := authorityOf(t, ca.Authority)
	responder.Lie(revtest.TryLater)
	chain := chainOf(ca, revtest.NamesResponders(responder.ResponderURL()), ca.NamesList())
	src := func() *Sources { return &Sources{HTTP: plain()} }
	rule := ruled(t, checkEnforce, true)
	found, code, detail := standingOf(t, src(), rule, chain, time.Time{})
	wantStanding(t, found, code, detail, "good")
	if by := found.Certificates[0].By; by != ca.ListURL() {
		t.Errorf("by %s", by)
	}
	ca.Revoke(chain.Leaf(), revtest.Revoked{})
	found, code, detail = standingOf(t, src(), rule, chain, time.Time{})
	wantStanding(t, found, code, detail, "revoked")

	// A responder that says good is believed, and the list is not asked for.
	responder.Lie(revtest.Works)
	before := len(ca.Requests())
	found, code, detail = standingOf(t, src(), rule, chain, time.Time{})
	wantStanding(t, found, code, detail, "good")
	if after := len(ca.Requests()); after != before {
		t.Errorf("the list was asked for %d times", after-before)
	}
	// Of two responders the first that answers decides; of two lists both have to.
	down := authorityOf(t, ca.Authority)
	down.Lie(revtest.Down)
	two := chainOf(ca, revtest.NamesResponders(down.ResponderURL(), responder.ResponderURL()))
	found, code, detail = standingOf(t, src(), rule, two, time.Time{})
	wantStanding(t, found, code, detail, "good")
	lists := chainOf(ca, revtest.NamesLists(ca.ListURL(), down.ListURL()))
	found, code, detail = standingOf(t, src(), rule, lists, time.Time{})
	wantStanding(t, found, code, detail, "unknown")
	ca.Revoke(lists.Leaf(), revtest.Revoked{})
	lists2 := chainOf(ca, revtest.NamesLists(down.ListURL(), ca.ListURL()), func(c *x509.Certificate) { c.SerialNumber = lists.Leaf().SerialNumber })
	found, code, detail = standingOf(t, src(), rule, lists2, time.Time{})
	wantStanding(t, found, code, detail, "revoked")
}

// TestX16InvalidityDate: what is proved to be from before a key was lost stays good.
func TestX16InvalidityDate(t *testing.T) {
	t.Parallel()
	lost := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	for _, way := range []string{"list", "responder", "file"} {
		for name, tt := range map[string]struct {
			proof time.Time
			how   revtest.Revoked
			want  string
		}{
			"proved before":          {lost.Add(-time.Second), revtest.Revoked{Reason: revtest.KeyCompromise, Invalid: lost}, "good"},
			"proved at that moment":  {lost, revtest.Revoked{Reason: revtest.KeyCompromise, Invalid: lost}, "revoked"},
			"proved after":           {lost.Add(time.Hour), revtest.Revoked{Reason: revtest.KeyCompromise, Invalid: lost}, "revoked"},
			"not proved":             {time.Time{}, revtest.Revoked{Reason: revtest.KeyCompromise, Invalid: lost}, "revoked"},
			"no invalidity date":     {lost.Add(-time.Hour), revtest.Revoked{Reason: revtest.KeyCompromise}, "revoked"},
			"on hold, proved before": {lost.Add(-time.Hour), revtest.Revoked{Reason: revtest.Hold, Invalid: lost}, "good"},
			"on hold":                {time.Time{}, revtest.Revoked{Reason: revtest.Hold, Invalid: lost}, "revoked"},
		} {
			t.Run(way+" "+name, func(t *testing.T) {
				t.Parallel()
				ca := authorityOf(t, certtest.Root("root"))
				names := map[string]certtest.Edit{"list": ca.NamesList(), "file": ca.NamesList(), "responder": ca.NamesResponder()}[way]
				chain := chainOf(ca, names)
				ca.Revoke(chain.Leaf(), tt.how)
				rule := ruled(t, checkEnforce, true)
				if way == "file" {
					rule = ruled(t, checkEnforce, false, ca.List())
				}
				found, code, detail := standingOf(t, &Sources{HTTP: plain()}, rule, chain, tt.proof)
				wantStanding(t, found, code, detail, tt.want)
			})
		}
	}
}

// TestDeltaLists: RFC 5280, 5.2.4.
func TestDeltaLists(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	chain, other := chainOf(ca), chainOf(ca)
	hours := func(n int) time.Time { return time.Now().Add(time.Duration(n) * time.Hour) }
	base := func(lie revtest.Lie) []byte { ca.Lie(lie); return ca.List() }
	check := func(what, want string, lists ...[]byte) {
		t.Helper()
		found, code, detail := standingOf(t, &Sources{}, ruled(t, checkEnforce, false, lists...), chain, time.Time{})
		if t.Run(what, func(t *testing.T) { wantStanding(t, found, code, detail, want) }); t.Failed() {
			t.Log(what)
		}
	}
	ca.Revoke(other.Leaf(), revtest.Revoked{})
	old := ca.DeltaList()
	check("base and delta", "good", base(revtest.NamesDelta), ca.DeltaList())
	check("delta that is not asked for", "good", base(revtest.Works), ca.DeltaList())
	check("delta alone", "unknown", ca.DeltaList())
	ca.RevokeInDelta(chain.Leaf(), revtest.Revoked{At: hours(-3), Reason: revtest.Hold})
	check("on hold by the delta", "revoked", base(revtest.NamesDelta), ca.DeltaList())
	check("on hold by a delta that is not asked for", "revoked", base(revtest.Works), ca.DeltaList())
	ca.RevokeInDelta(chain.Leaf(), revtest.Revoked{At: hours(-2), Reason: revtest.Remove})
	check("taken back within the delta", "good", base(revtest.NamesDelta), ca.DeltaList())
	ca.Revoke(chain.Leaf(), revtest.Revoked{At: hours(-3), Reason: revtest.Hold})
	check("on hold, and taken back by the delta", "good", base(revtest.NamesDelta), ca.DeltaList())
	check("on hold, and taken back by a delta of another scope", "revoked", base(revtest.OwnPoint), base(revtest.UsersOnly), ca.DeltaList())
	check("on hold, and a delta of before", "unknown", base(revtest.NamesDelta), old)
	check("on hold", "revoked", base(revtest.Works))
	check("on hold by a list that is over", "unknown", base(revtest.Stale))
	ca.RevokeInDelta(chain.Leaf(), revtest.Revoked{At: hours(-1), Reason: revtest.KeyCompromise})
	check("for good by the delta", "revoked", base(revtest.NamesDelta), ca.DeltaList())
	check("for good by the delta alone", "revoked", ca.DeltaList())
}

// TestRemoveInFullList: only a delta list takes anything back.
func TestRemoveInFullList(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	chain := chainOf(ca)
	ca.Revoke(chain.Leaf(), revtest.Revoked{Reason: revtest.Remove})
	found, code, detail := standingOf(t, &Sources{}, ruled(t, checkEnforce, false, ca.List()), chain, time.Time{})
	wantStanding(t, found, code, detail, "unknown")
}

// TestHoldThatEnded: of two lists that hold now the newer one counts for what can end.
func TestHoldThatEnded(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	chain, other := chainOf(ca), chainOf(ca)
	good := ca.List()
	ca.Revoke(chain.Leaf(), revtest.Revoked{Reason: revtest.Hold})
	held := ca.List()
	found, code, detail := standingOf(t, &Sources{}, ruled(t, checkEnforce, false, good, held), chain, time.Time{})
	wantStanding(t, found, code, detail, "revoked")

	ca2 := authorityOf(t, ca.Authority)
	ca2.Revoke(other.Leaf(), revtest.Revoked{})
	ca2.Revoke(other.Leaf(), revtest.Revoked{})
	for _, order := range [][][]byte{{held, ca2.List()}, {ca2.List(), held}} {
		found, code, detail = standingOf(t, &Sources{}, ruled(t, checkEnforce, false, order...), chain, time.Time{})
		wantStanding(t, found, code, detail, "good")
	}
	ca.Revoke(chain.Leaf(), revtest.Revoked{Reason: revtest.KeyCompromise})
	for _, order := range [][][]byte{{ca.List(), ca2.List()}, {ca2.List(), ca.List()}} {
		found, code, detail = standingOf(t, &Sources{}, ruled(t, checkEnforce, false, order...), chain, time.Time{})
		wantStanding(t, found, code, detail, "revoked")
	}
}

// TestRevocationByChecks: what becomes of good, revoked and unknown by what the section says.
func TestRevocationByChecks(t *testing.T) {
	t.Parallel()
	root := authorityOf(t, certtest.Root("root"))
	ca := authorityOf(t, root.Intermediate("ca", root.NamesList()))
	leaf := ca.Leaf(certtest.Key("P-256").Public(), "release", ca.NamesList())
	chain := certchain.Chain(ca.Chain(leaf))
	lists := [][]byte{ca.List(), root.List()}
	root.Revoke(ca.Certificate, revtest.Revoked{Reason: revtest.Superseded})
	revoked := root.List()
	root.Lie(revtest.UsersOnly)
	users := root.List()
	root.Lie(revtest.AuthoritiesOnly)
	authorities := root.List()
	offline := &Sources{}

	for _, tt := range []struct {
		name  string
		rule  *revoking
		want  string
		code  string
		warns int
	}{
		{"all covered", ruled(t, checkEnforce, false, lists...), "good", "", 0},
		{"the intermediate is not covered", ruled(t, checkEnforce, false, lists[0]), "unknown", codeRevocationUnknown, 0},
		{"the leaf is not covered", ruled(t, checkEnforce, false, lists[1]), "unknown", codeRevocationUnknown, 0},
		{"revoked intermediate", ruled(t, checkEnforce, false, lists[0], revoked), "revoked", codeRevoked, 0},
		{"revoked intermediate and an unknown leaf", ruled(t, checkEnforce, false, revoked), "revoked", codeRevoked, 0},
		{"the intermediate is on a list of users", ruled(t, checkEnforce, false, lists[0], users), "unknown", codeRevocationUnknown, 0},
		{"the intermediate is on a list of authorities", ruled(t, checkEnforce, false, lists[0], authorities), "revoked", codeRevoked, 0},
		{"offline", ruled(t, checkEnforce, true), "unknown", codeRevocationUnknown, 0},
		{"log revoked", ruled(t, checkLog, false, lists[0], revoked), "revoked", "", 1},
		{"log unknown", ruled(t, checkLog, false, lists[0]), "unknown", "", 1},
		{"log unknown and revoked", ruled(t, checkLog, false, revoked), "revoked", "", 2},
		{"log good", ruled(t, checkLog, false, lists...), "good", "", 0},
		{"off", ruled(t, checkOff, false, lists[0], revoked), "not-checked", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, code, detail := standingOf(t, offline, tt.rule, chain, time.Time{})
			if found.Status != tt.want || code != tt.code || len(found.Warnings) != tt.warns || found.Check != tt.rule.check {
				t.Errorf("%s, %q (%s), warnings %q; want %s, %q, %d", found.Status, code, detail, found.Warnings, tt.want, tt.code, tt.warns)
			}
		})
	}
	if found, code, _, ask := (court{policy: &Policy{}}).revocation(nil, chain, false, time.Time{}); found != nil || code != "" || ask {
		t.Errorf("without a section: %+v %s %v", found, code, ask)
	}
}

// TestRevocationWithoutAddresses: a certificate that names nobody is not revocable, as for notation; but where lists are given, each has
// to be covered.
func TestRevocationWithoutAddresses(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	chain := chainOf(ca)
	other := authorityOf(t, certtest.Root("another"))
	for _, tt := range []struct {
		rule *revoking
		want string
	}{
		{ruled(t, checkEnforce, true), "not-revocable"},
		{ruled(t, checkEnforce, true, other.List()), "unknown"},
		{ruled(t, checkEnforce, false, other.List()), "unknown"},
		{ruled(t, checkEnforce, true, ca.List()), "good"},
	} {
		found, code, detail := standingOf(t, &Sources{HTTP: plain()}, tt.rule, chain, time.Time{})
		wantStanding(t, found, code, detail, tt.want)
	}
	alone := certchain.Chain{certtest.SelfSigned(certtest.Key("P-256"), "alone")}
	found, code, detail := standingOf(t, &Sources{}, ruled(t, checkEnforce, false, ca.List()), alone, time.Time{})
	wantStanding(t, found, code, detail, "not-revocable")
	if n := len(ca.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// TestGivenLists: those of --crl are enforced for what they cover, and only that.
func TestGivenLists(t *testing.T) {
	t.Parallel()
	root := authorityOf(t, certtest.Root("root"))
	ca := authorityOf(t, root.Intermediate("ca"))
	chain := certchain.Chain(ca.Chain(ca.Leaf(certtest.Key("P-256").Public(), "release")))
	parse := func(files ...[]byte) *Lists { return &Lists{ruled(t, checkOff, false, files...).lists} }
	good := ca.List()
	ca.Lie(revtest.Stale)
	stale := ca.List()
	ca.Lie(revtest.Forged)
	forged := ca.List()
	ca.Lie(revtest.AuthoritiesOnly)
	apart := ca.List()
	ca.Lie(revtest.Works)
	ca.Revoke(chain.Leaf(), revtest.Revoked{})
	revoked := ca.List()
	log := ruled(t, checkLog, false, root.List())

	for _, tt := range []struct {
		name   string
		rule   *revoking
		given  *Lists
		want   string
		code   string
		each   string
		warned int
	}{
		{"good", nil, parse(good), "not-checked", "", "good not-checked", 0},
		{"good, by two", nil, parse(good, root.List()), "good", "", "good good", 0},
		{"covers nothing", nil, parse(apart), "not-checked", "", "not-checked not-checked", 0},
		{"stale", nil, parse(stale), "unknown", codeRevocationUnknown, "unknown not-checked", 0},
		{"forged", nil, parse(forged), "unknown", codeRevocationUnknown, "unknown not-checked", 0},
		{"forged beside a good one", nil, parse(forged, good), "not-checked", "", "good not-checked", 0},
		{"revoked", nil, parse(revoked), "revoked", codeRevoked, "revoked not-checked", 0},
		{"revoked, beside an older good one", nil, parse(good, revoked), "revoked", codeRevoked, "revoked not-checked", 0},
		{"revoked, though the policy only tells", log, parse(revoked), "revoked", codeRevoked, "revoked good", 0},
		{"stale, though the policy only tells", log, parse(stale), "unknown", codeRevocationUnknown, "unknown good", 0},
		{"good, and the policy only tells", log, parse(good), "good", "", "good good", 0},
		{"the policy only tells of what is not covered", log, parse(apart), "unknown", "", "unknown good", 1},
		{"off", ruled(t, checkOff, false), parse(revoked), "revoked", codeRevoked, "revoked not-checked", 0},
		{"enforced: a given list helps to know", ruled(t, checkEnforce, false, root.List()), parse(good), "good", "", "good good", 0},
		{"enforced: revoked by a given list", ruled(t, checkEnforce, false, root.List(), good), parse(revoked), "revoked", codeRevoked, "revoked good", 0},
		{"told revoked by the policy's, not enforced by a given one", ruled(t, checkLog, false, root.List(), revoked), parse(good), "revoked", "", "revoked good", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := court{policy: &Policy{narrow: narrowing{lists: tt.given}}, now: time.Now()}
			found, code, detail, ask := c.revocation(tt.rule, chain, false, time.Time{})
			var each []string
			for _, s := range found.Certificates {
				each = append(each, s.Status)
			}
			if found.Status != tt.want || code != tt.code || strings.Join(each, " ") != tt.each || len(found.Warnings) != tt.warned || ask {
				t.Errorf("%s (%s), %q (%s), warnings %q, asks %v; want %s (%s), %q", found.Status, each, code, detail, found.Warnings, ask, tt.want, tt.each, tt.code)
			}
			if tt.rule == nil {
				err := tt.given.Check(chain, time.Now())
				if got := reasonOf(err, ""); got != tt.code {
					t.Errorf("Check: %v, want %q", err, tt.code)
				}
			}
		})
	}
}

// TestOneQuestionPerCertificate: however often and by how many a run asks.
func TestOneQuestionPerCertificate(t *testing.T) {
	t.Parallel()
	for _, lie := range []revtest.Lie{revtest.Works, revtest.Status404} {
		root := authorityOf(t, certtest.Root("root"))
		ca := authorityOf(t, root.Intermediate("ca", root.NamesList()))
		var chains []certchain.Chain
		for range 5 {
			chains = append(chains, ca.Chain(ca.Leaf(certtest.Key("P-256").Public(), "release", ca.NamesResponder(), ca.NamesList())))
		}
		ca.Lie(lie)
		src := &Sources{HTTP: plain()}
		rule := ruled(t, checkEnforce, true)
		var wait sync.WaitGroup
		for range 20 {
			for _, chain := range chains {
				wait.Go(func() {
					src.revocations(t.Context(), []question{{rule: rule, chain: chain}, {rule: rule, chain: chain}}, time.Now())
				})
			}
		}
		wait.Wait()
		if got := root.Requests(); len(got) != 1 {
			t.Errorf("%d requests for the intermediate", len(got))
		}
		asked := strings.Join(ca.Requests(), "\n")
		posts, gets := strings.Count(asked, "POST"), strings.Count(asked, "GET")
		if want := map[revtest.Lie]int{revtest.Works: 0, revtest.Status404: 1}[lie]; posts != 5 || gets != want {
			t.Errorf("lie %d: %d questions and %d lists, want 5 and %d", lie, posts, gets, want)
		}
	}
}

// TestRevocationThatIsGivenUp: who ends early leaves nothing wrong to those who ask later.
func TestRevocationThatIsGivenUp(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	ca.Lie(revtest.Hangs)
	chain, rule, src := chainOf(ca, ca.NamesList()), ruled(t, checkEnforce, true), &Sources{HTTP: plain()}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	c := court{policy: &Policy{}, now: time.Now()}
	c.evidence.revocation = src.revocations(ctx, []question{{rule: rule, chain: chain}}, c.now)
	found, code, detail, ask := c.revocation(rule, chain, false, time.Time{})
	wantStanding(t, found, code, detail, "unknown")
	if ask {
		t.Error("it asks again")
	}
	ca.Lie(revtest.Works)
	found, code, detail = standingOf(t, src, rule, chain, time.Time{})
	wantStanding(t, found, code, detail, "good")
}

// TestAnswersTooLarge: what is too large is not read, and said to be.
func TestX13AnswersTooLarge(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	ca.Lie(revtest.Huge)
	for limit, names := range map[string]certtest.Edit{"33554432": ca.NamesList(), "65536": ca.NamesResponder()} {
		_, _, detail := standingOf(t, &Sources{HTTP: http.DefaultClient}, ruled(t, checkEnforce, true), chainOf(ca, names), time.Time{})
		if !strings.Contains(detail, "its answer takes more than "+limit+" bytes") {
			t.Errorf("it says %q", detail)
		}
	}
}

// TestHoldByAnOldAnswer: what can end is not known from what is over.
func TestHoldByAnOldAnswer(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	chain := chainOf(ca, ca.NamesResponder())
	ca.Revoke(chain.Leaf(), revtest.Revoked{Reason: revtest.Hold})
	for lie, want := range map[revtest.Lie]string{revtest.Works: "revoked", revtest.Stale: "unknown"} {
		ca.Lie(lie)
		found, code, detail := standingOf(t, &Sources{HTTP: plain()}, ruled(t, checkEnforce, true), chain, time.Time{})
		wantStanding(t, found, code, detail, want)
	}
}

// TestRevocationOfOneThatAsks: of a chain also one that is asked about has to be known.
func TestRevocationOfOneThatAsks(t *testing.T) {
	t.Parallel()
	for _, leaf := range []bool{true, false} {
		root := authorityOf(t, certtest.Root("root"))
		var ofCA, ofLeaf []certtest.Edit
		if !leaf {
			ofCA = append(ofCA, root.NamesList())
		}
		ca := authorityOf(t, root.Intermediate("ca", ofCA...))
		if leaf {
			ofLeaf = append(ofLeaf, ca.NamesList())
		}
		chain := chainOf(ca, ofLeaf...)
		src := &Sources{HTTP: plain()}
		found, code, detail := standingOf(t, src, ruled(t, checkEnforce, true), chain, time.Time{})
		wantStanding(t, found, code, detail, "good")
		src.revocations(t.Context(), []question{{rule: ruled(t, checkEnforce, false), chain: chain}, {chain: chain}}, time.Now())
		if n := len(root.Requests()) + len(ca.Requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	}
	ca := authorityOf(t, certtest.Root("root"))
	chain := chainOf(ca, ca.NamesList())
	(&Sources{HTTP: plain()}).revocations(t.Context(), []question{{rule: ruled(t, checkEnforce, false), chain: chain}, {chain: chain}}, time.Now())
	if n := len(ca.Requests()); n != 0 {
		t.Errorf("%d requests that no section allows", n)
	}
}

// counted counts what goes out.
type counted struct {
	n    atomic.Int64
	next http.RoundTripper
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	if c.next == nil {
		return nil, io.ErrUnexpectedEOF
	}
	return c.next.RoundTrip(r)
}

// TestX17Addresses: only http is asked, nothing of the inside of a network, and not too many.
func TestX17Addresses(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	many := slices.Repeat([]string{ca.ListURL()}, maxAddresses+1)
	for name, tt := range map[string]struct {
		edits []certtest.Edit
		why   string
	}{
		"metadata":            {[]certtest.Edit{revtest.NamesLists("http://169.254.169.254/latest")}, "link-local"},
		"localhost":           {[]certtest.Edit{revtest.NamesLists("http://localhost/ca.crl")}, "this machine"},
		"loopback":            {[]certtest.Edit{ca.NamesList()}, "this machine"},
		"responder":           {[]certtest.Edit{ca.NamesResponder()}, "this machine"},
		"file":                {[]certtest.Edit{revtest.NamesLists("file:///etc/passwd")}, "not http"},
		"ldap":                {[]certtest.Edit{revtest.NamesLists("ldap://ca.example/cn=x")}, "not http"},
		"https":               {[]certtest.Edit{revtest.NamesLists("https://ca.example/ca.crl")}, "not http"},
		"responder ldap":      {[]certtest.Edit{revtest.NamesResponders("ldap://ca.example/")}, "not http"},
		"too many":            {[]certtest.Edit{revtest.NamesLists(many...)}, "more than 8 addresses"},
		"too many responders": {[]certtest.Edit{revtest.NamesResponders(slices.Repeat([]string{ca.ResponderURL()}, maxAddresses+1)...)}, "more than 8 addresses"},
		"too long":            {[]certtest.Edit{revtest.NamesLists("http://ca.example/" + strings.Repeat("x", maxAddress))}, "more than 2048 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &counted{}
			guarded := fetch.New(fetch.Options{}).HTTP()
			out.next, guarded.Transport = guarded.Transport, out
			found, code, detail := standingOf(t, &Sources{HTTP: guarded}, ruled(t, checkEnforce, true), chainOf(ca, tt.edits...), time.Time{})
			wantStanding(t, found, code, detail, "unknown")
			if !strings.Contains(detail, tt.why) {
				t.Errorf("it says %q, want %q in it", detail, tt.why)
			}
			if n := out.n.Load(); n > 1 || tt.why != "this machine" && tt.why != "link-local" && n > 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
	if n := len(ca.Requests()); n > 0 {
		t.Errorf("%d requests came to this machine", n)
	}
}

// TestX13Redirects: a redirect to the inside is not followed; one to a list elsewhere is, since it carries its own signature.
func TestX13Redirects(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	elsewhere := authorityOf(t, ca.Authority)
	ca.Lie(revtest.Redirects)
	ca.RedirectTo(elsewhere.ListURL())
	found, code, detail := standingOf(t, &Sources{HTTP: plain()}, ruled(t, checkEnforce, true), chainOf(ca, ca.NamesList()), time.Time{})
	wantStanding(t, found, code, detail, "good")
	ca.RedirectTo("http://[fe80::1%25eth0]/ca.crl")
	found, code, detail = standingOf(t, &Sources{HTTP: plain()}, ruled(t, checkEnforce, true), chainOf(ca, ca.NamesList()), time.Time{})
	wantStanding(t, found, code, detail, "unknown")
}

// TestX15Cache: lists are kept between runs, and nothing is believed for having been kept.
func TestX15Cache(t *testing.T) {
	t.Parallel()
	ca := authorityOf(t, certtest.Root("root"))
	chain, rule := chainOf(ca, ca.NamesList()), ruled(t, checkEnforce, true)
	dir := filepath.Join(t.TempDir(), "deep", "cache")
	var warned []string
	run := func(want string) {
		t.Helper()
		warned = nil
		src := &Sources{HTTP: plain(), Cache: dir, Warn: func(code, m string) { warned = append(warned, code+": "+m) }}
		found, code, detail := standingOf(t, src, rule, chain, time.Time{})
		wantStanding(t, found, code, detail, want)
	}
	requests := func(want int) {
		t.Helper()
		if got := ca.Requests(); len(got) != want {
			t.Errorf("%d requests, want %d", len(got), want)
		}
	}
	kept := func() string {
		t.Helper()
		all, err := os.ReadDir(dir)
		if err != nil || len(all) != 1 {
			t.Fatalf("the cache holds %v (%v)", all, err)
		}
		return filepath.Join(dir, all[0].Name())
	}
	run("good")
	run("good")
	requests(1)
	if info, err := os.Stat(kept()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}

	// A revocation after it was kept counts when the list is a day old at the latest.
	ca.Revoke(chain.Leaf(), revtest.Revoked{})
	run("good")
	yesterday := time.Now().Add(-maxAgeOfList - time.Minute)
	if err := os.Chtimes(kept(), yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	run("revoked")
	requests(2)

	// What somebody wrote there: an older list that is over, one by another key, no list, a FIFO's like. All are fetched anew.
	ca.Lie(revtest.Stale)
	stale := ca.List()
	ca.Lie(revtest.Forged)
	forged := ca.List()
	ca.Lie(revtest.Works)
	for i, planted := range [][]byte{stale, forged, []byte("junk"), nil} {
		if err := os.WriteFile(kept(), planted, 0o600); err != nil {
			t.Fatal(err)
		}
		run("revoked")
		requests(3 + i)
		if len(warned) > 0 {
			t.Errorf("warned %q", warned)
		}
	}
	// Nobody answers: the list of yesterday still holds.
	if err := os.Chtimes(kept(), yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	ca.Lie(revtest.Status404)
	run("revoked")
	if len(warned) != 1 || !strings.HasPrefix(warned[0], "revocation-list-old: ") {
		t.Errorf("warned %q", warned)
	}
	// What its issuer did not sign is not kept.
	if err := os.Remove(kept()); err != nil {
		t.Fatal(err)
	}
	ca.Lie(revtest.Forged)
	run("unknown")
	if all, err := os.ReadDir(dir); err != nil || len(all) > 0 {
		t.Errorf("kept %v (%v)", all, err)
	}
	ca.Lie(revtest.Works)
	run("revoked")
	ca.Lie(revtest.Status404)
	// Nobody answers, and what is there is over: unknown.
	if err := os.WriteFile(kept(), forged, 0o600); err != nil {
		t.Fatal(err)
	}
	if run("unknown"); len(warned) > 0 {
		t.Errorf("warned %q of a list that was not used", warned)
	}
}

// TestListsOfARun: a list is fetched once for all that it is about, as long as there is room for it.
func TestListsOfARun(t *testing.T) {
	t.Parallel()
	src, rule := &Sources{HTTP: plain()}, ruled(t, checkEnforce, true)
	for _, tt := range []struct {
		before  int // bytes of lists that are kept
		fetched int
	}{{0, 1}, {maxListsKept, 3}} {
		ca := authorityOf(t, certtest.Root("root"))
		src.revocation.kept += tt.before
		kept := src.revocation.kept
		for range 3 {
			found, code, detail := standingOf(t, src, rule, chainOf(ca, ca.NamesList()), time.Time{})
			wantStanding(t, found, code, detail, "good")
		}
		if n := len(ca.Requests()); n != tt.fetched {
			t.Errorf("%d bytes before: fetched %d times, want %d", tt.before, n, tt.fetched)
		}
		if more := src.revocation.kept - kept; (more > 0) != (tt.before == 0) || more > len(ca.List())+16 {
			t.Errorf("%d bytes before: %d more are counted", tt.before, more)
		}
	}
}

// TestX15CacheOfNoUse: it is worked without.
func TestX15CacheOfNoUse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join(t.TempDir(), "sealed")
	if err := os.Mkdir(sealed, 0o500); err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{"a file": file, "below a file": filepath.Join(file, "cache"), "on /proc": "/proc/self/crl"}
	if os.Getuid() != 0 { // who may write everywhere
		folders["no right"] = sealed
	}
	for name, dir := range folders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := authorityOf(t, certtest.Root("root"))
			var warned []string
			src := &Sources{HTTP: plain(), Cache: dir, Warn: func(code, m string) { warned = append(warned, code) }}
			found, code, detail := standingOf(t, src, ruled(t, checkEnforce, true), chainOf(ca, ca.NamesList()), time.Time{})
			wantStanding(t, found, code, detail, "good")
			if len(warned) == 0 || slices.ContainsFunc(warned, func(c string) bool { return c != "revocation-cache" }) {
				t.Errorf("warned %q", warned)
			}
		})
	}
}

// TestReferenceLibrary: whatever lists and answers say, imprint never says good where notation-core-go does not.
func TestReferenceLibrary(t *testing.T) {
	t.Parallel()
	hows := map[string]*revtest.Revoked{
		"good": nil, "revoked": {Reason: revtest.KeyCompromise}, "unspecified": {}, "hold": {Reason: revtest.Hold}, "remove": {Reason: revtest.Remove},
		"invalid before": {Reason: revtest.KeyCompromise, Invalid: time.Now().Add(-72 * time.Hour)}, "invalid after": {Reason: revtest.KeyCompromise, Invalid: time.Now().Add(-time.Hour)},
	}
	proofs := map[string]time.Time{"": {}, " proved": time.Now().Add(-24 * time.Hour)}
	lies := map[string]revtest.Lie{"with a delta": revtest.NamesDelta}
	for _, tt := range listLies {
		lies[tt.name] = tt.lie
	}
	for _, tt := range answerLies {
		lies[tt.name] = tt.lie
	}
	for _, tt := range networkLies {
		if tt.lie != revtest.Huge && tt.lie != revtest.Hangs {
			lies[tt.name] = tt.lie
		}
	}
	var agreed, stricter atomic.Int64
	t.Run("all", func(t *testing.T) {
		for name, lie := range lies {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for how, revoked := range hows {
					if slow := lie >= revtest.Huge; slow && how != "good" && how != "revoked" {
						continue
					}
					for _, inDelta := range []bool{false, true} {
						if inDelta && (revoked == nil || lie != revtest.NamesDelta) {
							continue
						}
						for way, edits := range map[string]func(*revtest.CA) []certtest.Edit{
							"list":      func(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesList()} },
							"responder": func(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesResponder()} },
							"both":      func(ca *revtest.CA) []certtest.Edit { return []certtest.Edit{ca.NamesResponder(), ca.NamesList()} },
						} {
							ca := revtest.New(certtest.Root("root"))
							ca.RedirectTo("file:///etc/passwd")
							chain := chainOf(ca, edits(ca)...)
							switch {
							case revoked == nil:
							case inDelta:
								ca.RevokeInDelta(chain.Leaf(), *revoked)
							default:
								ca.Revoke(chain.Leaf(), *revoked)
							}
							ca.Lie(lie)
							for proved, proof := range proofs {
								theirs := referenceSays(t, chain, proof)
								found, _, detail := standingOf(t, &Sources{HTTP: plain()}, ruled(t, checkEnforce, true), chain, proof)
								switch {
								case found.Status == RevocationGood && theirs != result.ResultOK && theirs != result.ResultNonRevokable:
									t.Errorf("%s %s%s: imprint says good, notation %v", way, how, proved, theirs)
								case found.Status != RevocationGood && theirs == result.ResultOK:
									stricter.Add(1)
									t.Logf("%s %s%s: imprint says %s (%s), notation good", way, how, proved, found.Status, detail)
								default:
									agreed.Add(1)
								}
							}
							ca.Stop()
						}
					}
				}
			})
		}
	})
	t.Logf("%d agreed, %d stricter", agreed.Load(), stricter.Load())
	if agreed.Load() < 500 || stricter.Load() == 0 {
		t.Errorf("%d agreed, %d stricter: the comparison compares nothing", agreed.Load(), stricter.Load())
	}
}

func referenceSays(t testing.TB, chain certchain.Chain, proof time.Time) result.Result {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	lists, err := crl.NewHTTPFetcher(client)
	if err != nil {
		t.Fatal(err)
	}
	judge, err := reference.NewWithOptions(reference.Options{OCSPHTTPClient: client, CRLFetcher: lists, CertChainPurpose: purpose.CodeSigning})
	if err != nil {
		t.Fatal(err)
	}
	results, err := judge.ValidateContext(t.Context(), reference.ValidateContextOptions{CertChain: chain, AuthenticSigningTime: proof})
	if err != nil {
		t.Fatal(err)
	}
	return results[0].Result
}
