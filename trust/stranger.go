package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"

	"github.com/imprint-oci/imprint/certchain"
)

// stranger says what the scope makes of a chain that holds none of its roots where it has to stand.
func (c court) stranger(chain certchain.Chain) string {
	trusted := c.trusted()
	for _, name := range c.policy.rootNames() {
		switch {
		case !c.policy.roots[name].stands(chain):
		case trusted[name] != nil:
			return fmt.Sprintf("this run is narrowed to other roots than %s", name)
		default:
			return fmt.Sprintf("this scope does not trust root %s", name)
		}
	}
	last := certchain.NameOf(chain.Root().RawSubject)
	for _, name := range slices.Sorted(maps.Keys(trusted)) {
		r := trusted[name]
		for _, pinned := range r.certificates {
			switch i := slices.IndexFunc(chain, pinned.Equal); {
			case i < 0:
			case i == 0:
				return fmt.Sprintf("root %s is the signer's own certificate; it has to stand %s", name, r.pin.place())
			case r.pin == pinLeaf:
				return fmt.Sprintf("root %s stands in the chain, but has to stand %s", name, r.pin.place())
			default:
				return fmt.Sprintf("root %s stands in the chain, but the chain ends in %s", name, last)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(trusted)) {
		if cert, pinned := trusted[name].namesake(chain); cert != nil {
			what := "the chain ends in another certificate"
			if !cert.Equal(chain.Root()) {
				what = "the chain holds another certificate"
			}
			return fmt.Sprintf("%s of the name of root %s: sha256 %s, not %s", what, name, certchain.Thumbprint(cert), certchain.Thumbprint(pinned))
		}
	}
	return "this scope does not trust that root"
}

// trusted are the scope's roots, by name, also those that this run is narrowed out of.
func (c court) trusted() map[string]*root {
	out := map[string]*root{}
	for e := range c.scope.entries() {
		out[e.root.name] = e.root
	}
	for _, group := range c.scope.groups {
		for _, e := range group {
			out[e.root.name] = e.root
		}
	}
	return out
}

// within returns the first and the last index in a chain that the certificate may have.
func (p pin) within(chain certchain.Chain) (from, to int) {
	last := len(chain) - 1
	switch p {
	case pinIntermediate:
		return 1, last
	case pinLeaf:
		return 0, 0
	}
	return last, last
}

// place says the same in words.
func (p pin) place() string {
	switch p {
	case pinIntermediate:
		return "above the signer's"
	case pinLeaf:
		return "first"
	}
	return "last"
}

// namesake returns a certificate of the chain that stands where the root's pin says and has the name of one of the root's, but is
// another.
func (r *root) namesake(chain certchain.Chain) (cert, pinned *x509.Certificate) {
	from, to := r.pin.within(chain)
	for i := from; i <= to; i++ {
		cert := chain[i]
		for _, pinned := range r.certificates {
			if bytes.Equal(pinned.RawSubject, cert.RawSubject) {
				return cert, pinned
			}
		}
	}
	return nil, nil
}

// reissued names the root of which the chain ends in another certificate of the same name and key (X02). Only the holder of that
// key can have made it; whether it is trusted is still for the policy to say.
func (c court) reissued(chain certchain.Chain) string {
	last := chain.Root()
	trusted := c.trusted()
	for _, name := range slices.Sorted(maps.Keys(trusted)) {
		for _, pinned := range trusted[name].certificates {
			if trusted[name].pin == pinRoot && !pinned.Equal(last) && bytes.Equal(pinned.RawSubject, last.RawSubject) &&
				bytes.Equal(pinned.RawSubjectPublicKeyInfo, last.RawSubjectPublicKeyInfo) {
				return name
			}
		}
	}
	return ""
}
