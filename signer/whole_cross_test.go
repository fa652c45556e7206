package signer

import (
	"testing"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestSignWholeCrossSigned: the chain given leads the plugin's own leaf to another root than the plugin's chain does. What was signed
// under the plugin's root is still found, and no second signature is pushed.
func TestSignWholeCrossSigned(t *testing.T) {
	t.Parallel()
	p := remote(t, regtest.New(t, regtest.WithAPI))
	subject := p.image(t, "app", "1.0")
	id := newIdentity("release")
	p.sign(t, subject, id, Options{Tag: "1.0"})

	other := certtest.Root("another root")
	cross := other.IntermediateWith(id.ca.Key, "ca of release")
	given := certchain.Chain{id.chain.Leaf(), cross.Certificate, other.Certificate}
	key := &pluginKey{t: t, id: id}
	r := p.signWith(t, subject, key, given, Options{Tag: "1.0"})
	if shown(r) != StatusAlreadySigned || r.Written != 0 || r.There != 1 || r.KeyCalls != 1 {
		t.Errorf("%s, %d written, %d there, %d calls", shown(r), r.Written, r.There, r.KeyCalls)
	}
	if n := len(p.found(t, subject)); n != 1 {
		t.Errorf("%d signatures", n)
	}
}
