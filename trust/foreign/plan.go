package foreign

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/imprint-oci/imprint/trust"
)

// A voice is an entry of trust as a target can say it: certificates of which one must be in the chain, and names.
type voice struct {
	root         string
	authority    bool // signing-authority
	certificates []*x509.Certificate
	names        names
	timestamps   *trust.TimestampsView
	revocation   string
}

// voices returns what the target can say of entries of s without accepting more; the rest is left out and named.
func (x *exporter) voices(s trust.ScopeView, entries []trust.EntryView) []voice {
	var out []voice
	for _, e := range entries {
		if v, ok := x.voice(s, e); ok {
			out = append(out, v)
		}
	}
	return out
}

func (x *exporter) voice(s trust.ScopeView, e trust.EntryView) (voice, bool) {
	v := voice{root: e.Root.Name, authority: e.Root.Kind == "signing-authority", timestamps: e.Timestamps, revocation: e.Revocation.Check}
	said := true
	silent := func(code, why string) {
		said = false
		x.lose(code, s.Name, Narrower, "root %s: %s; so it is not trusted there", e.Root.Name, why)
	}
	if v.authority && x.to == Kyverno {
		silent(lossKind, "Kyverno knows no signing authorities")
	}
	switch e.Claims {
	case "ignore", "if-present":
	default:
		silent(lossClaims, "claims: "+e.Claims+", and "+x.who+" does not look at claims")
	}
	if e.MaxAge > 0 {
		silent(lossMaxAge, x.who+" accepts signatures of any age")
	}
	if e.Algorithms != nil && !slices.Equal(slices.Sorted(slices.Values(e.Algorithms)), everyAlgorithm) {
		silent(lossAlgorithms, x.who+" accepts all algorithms of the Notary Project, not only "+strings.Join(e.Algorithms, ", "))
	}
	if s.StrictX509 {
		silent(lossStrict, x.who+" passes over what X.509 asks for beyond the rules of the Notary Project")
	}
	if r := e.Revocation; r.Check == "enforce" && (r.Lists || !r.Network) {
		silent(lossRevocation, x.who+" asks the network and reads no lists of a policy")
	}
	if x.to == Kyverno {
		x.aboutKyverno(s, e, silent)
	}
	v.certificates = x.pinned(e.Root, silent)
	if x.to != Kyverno && len(e.Root.Identities)+len(e.Identities) > 0 {
		v.names = x.names(s, e, silent)
	}
	if said = said && len(v.certificates) > 0; said && e.Claims == "if-present" {
		x.lose(lossIfPresent, s.Name, Wider, "%s does not look at claims: it accepts a digest also under a tag that its signature does not claim; "+
			"claims: ignore says so here too", x.who)
	}
	return v, said
}

// everyAlgorithm is what no limit allows.
var everyAlgorithm = []string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}

func (x *exporter) aboutKyverno(s trust.ScopeView, e trust.EntryView, silent func(code, why string)) {
	switch {
	case e.Timestamps == nil:
	case e.Timestamps.Use == "always":
		silent(lossTimestamps, "Kyverno does not ask for timestamps")
	default:
		x.lose(lossTimestamps, s.Name, Narrower, "Kyverno does not look at timestamps: what was signed under a certificate that has expired is rejected")
	}
	if e.Revocation.Check != "enforce" {
		x.note("Kyverno asks the network whether certificates that say where to ask were revoked, and rejects what it cannot find out")
	}
	if len(e.Root.Identities)+len(e.Identities) > 0 {
		silent(lossIdentities, "Kyverno does not look at the signer's identity")
	}
}

// pinned returns the certificates that match in the target, wherever in a chain it finds them, what the root's pin means here.
func (x *exporter) pinned(r trust.RootView, silent func(code, why string)) []*x509.Certificate {
	var out []*x509.Certificate
	unsaid := false
	for _, c := range r.Certificates {
		ca, own := c.BasicConstraintsValid && c.IsCA, x.selfSigned(c)
		switch {
		case r.Pin == "root" && own,
			r.Pin == "intermediate" && ca, // a CA never stands first
			r.Pin == "leaf" && !ca && (own || x.to == Kyverno):
			out = append(out, c)
		case r.Pin == "leaf" && !ca:
			unsaid = true
		}
		// Any other certificate can stand nowhere in a chain that is accepted here. There it might.
	}
	if unsaid && len(out) == 0 {
		silent(lossPin, "its certificate is a leaf that an authority issued, and trust stores hold authorities and self-signed leaves")
	} else if unsaid {
		silent(lossPin, "some of its certificates are leaves that an authority issued, and trust stores hold authorities and self-signed leaves")
	}
	return out
}

// pemOf encodes certificates, in an order of their own.
func pemOf(certs []*x509.Certificate) []byte {
	certs = slices.SortedFunc(slices.Values(certs), func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	var out bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return out.Bytes()
}

// plain makes a name of the characters that files and trust stores may have.
func plain(name string, most int) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			b.WriteRune(r)
		default:
			b.WriteByte('-')
		}
	}
	s := strings.Trim(b.String(), ".-_")
	if len(s) > most {
		s = strings.Trim(s[:most], ".-_")
	}
	if s == "" {
		return "root"
	}
	return s
}
