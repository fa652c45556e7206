package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// A delegating scene has a hub that delegates: documents are issued by its role "issuer", and a vendor that may be granted.
func newDelegatingScene(t *testing.T) (s *scene, policy string) {
	t.Helper()
	s = newScene(t, "hub", "vendor", "other")
	ca := s.joins("delegator", named("Hub", "artifacts"))
	s.adds("issuer", ca.root, ca.ca, certtest.Key("P-256"), named("Hub Delegations", "2026"))
	s.env = append(s.env, "IMPRINT_STATE="+s.at("state"))
	return s, s.policy(fmt.Sprintf(`scopes:
  hub.example:
    trust: [hub]
    delegate: {root: delegator, from: registry, at: "%s/trust/delegations:v1", identities: ["O=Hub Delegations"]}
  hub.example/shielded: [other]
`, s.Host))
}

// delegates makes a document of grants and publishes it, signed by a party.
func (s *scene) delegates(by, scope string, version int, grants ...string) {
	s.t.Helper()
	file := s.at(fmt.Sprintf("delegations-%d.json", version))
	_ = os.Remove(file)
	s.env = slices.DeleteFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "IMPRINT_POLICY=") })
	args := []string{"policy", "delegate", "make", "--scope", scope, "--expires", "90d", "--version", fmt.Sprint(version), "--out", file}
	for _, g := range grants {
		args = append(args, "--grant", g)
	}
	s.does(args...)
	s.does(slices.Concat([]string{"policy", "delegate", "publish", file, s.Host + "/trust/delegations:v1", "--move", "v1"}, s.by(by))...)
}

// S10, R24: keys that a pinned authority delegates and a registry serves; without its signature the same document is nothing.
// And hierarchies of certificates: leaf, two intermediates, root.
func TestS10R24DelegatedKeys(t *testing.T) {
	t.Parallel()
	s, policy := newDelegatingScene(t)
	ref, _ := s.image("app:1.0")
	deep := s.parties["vendor"]
	s.adds("vendor", deep.root, deep.ca.Intermediate("vendor team CA"), certtest.Key("P-256"))
	s.sign("vendor", ref)
	granted, other := asFor(policy, "hub.example/vendor2/app:1.0"), asFor(policy, "hub.example/elsewhere/app:1.0")

	s.delegates("other", "hub.example", 1, "hub.example/vendor2="+s.at("vendor.pem")) // not of the pinned authority
	s.rejects("delegation-untrusted", ref, granted...)
	s.delegates("delegator", "hub.example", 2, "hub.example/vendor2="+s.at("vendor.pem")) // of it, but not whose role it is
	s.rejects("delegation-untrusted", ref, granted...)
	s.delegates("issuer", "hub.example", 3, "hub.example/vendor2="+s.at("vendor.pem"))
	o := s.accepts(ref, granted...)
	if got := o.field(t, "delegation.status") + " " + o.field(t, "delegation.version"); got != "counts 3" {
		t.Errorf("of the document is told %q\n%s", got, o.stdout)
	}
	s.rejects("no-trusted-signature", ref, other...)
	s.rejects("no-trusted-signature", ref, asFor(policy, "hub.example/shielded/app:1.0")...) // a scope without delegate
	// What the scope trusts itself is not touched by any document.
	own, _ := s.image("own:1.0")
	s.sign("hub", own)
	s.accepts(own, granted...)
	s.accepts(own, other...)
}

// S24: nobody signs that there is nothing. That a document or a signature is not there never widens what is trusted.
func TestS24AbsenceGrantsNothing(t *testing.T) {
	t.Parallel()
	s, policy := newDelegatingScene(t)
	ref, _ := s.image("app:1.0")
	s.sign("vendor", ref)
	at := asFor(policy, "hub.example/vendor2/app:1.0")
	s.want(t, 4, "delegation-unavailable", append([]string{"verify", ref}, at...)...) // there is no document
	for _, status := range []int{http.StatusNotFound, http.StatusInternalServerError, http.StatusForbidden} {
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/trust/") {
				failure(w, status, "UNKNOWN")
				return true
			}
			return false
		})
		if o := s.run(t, append([]string{"verify", ref, "--timeout", "1s"}, at...)...); o.code == 0 {
			t.Errorf("%d for the document: accepted\n%s", status, o.stdout)
		}
	}
	s.Intercept(nil)
	// An exclusive scope finds none of its own, and the wider one's is there.
	exclusive := s.policy("scopes:\n  \"*\": [vendor]\n  hub.example: [hub]\n")
	s.rejects("no-trusted-signature", ref, asFor(exclusive, "hub.example/app:1.0")...)
	unsigned, _ := s.image("unsigned:1.0")
	s.rejects("unsigned", unsigned, asFor(exclusive, "hub.example/app:1.0")...)
}
