package cmd

import (
	"context"
	"crypto"
	"crypto/x509"
	"maps"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// plant attaches a copy of the artifact's first signature with another chain: who may push can make one for the
// public key of anybody, under a root of his own.
func (w *world) plant(layout, tag string, chain func(pub crypto.PublicKey) []*x509.Certificate) {
	w.t.Helper()
	ctx := context.Background()
	c, err := registry.NewClient(registry.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	repo, err := c.Open(ctx, registry.Reference{Kind: registry.Layout, Path: w.path(layout)})
	if err != nil {
		w.t.Fatal(err)
	}
	defer repo.Close()
	m, err := repo.Resolve(ctx, registry.Reference{Tag: tag})
	if err != nil {
		w.t.Fatal(err)
	}
	sigs, err := repo.Signatures(ctx, m.Descriptor)
	if err != nil || len(sigs) == 0 {
		w.t.Fatal(len(sigs), err)
	}
	e, err := envelope.Parse(sigs[0].MediaType, sigs[0].Envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	planted, err := e.WithChain(certchain.Chain(chain(e.Unverified().Chain.Leaf().PublicKey)))
	if err != nil {
		w.t.Fatal(err)
	}
	signature := repo.Form().Manifest(sigs[0].Subject, sigs[0].MediaType, planted.Bytes(), sigs[0].Annotations)
	if err := repo.PushSignature(ctx, m.Descriptor, signature, planted.Bytes()); err != nil {
		w.t.Fatal(err)
	}
}

// TestRechainBesideAPlantedSignature: what somebody planted keeps no genuine signature from its new chain. That it
// was refused is told, and nobody has to loosen a check for it.
func TestRechainBesideAPlantedSignature(t *testing.T) {
	t.Parallel()
	never := certtest.Valid(time.Now().Add(-time.Hour), time.Now().Add(50*365*24*time.Hour))
	evil := certtest.Root("Evil Root", never)
	for name, chain := range map[string]func(pub crypto.PublicKey) []*x509.Certificate{
		"another identity": func(pub crypto.PublicKey) []*x509.Certificate {
			return evil.Chain(evil.Leaf(pub, "somebody", never))
		},
		"a chain that holds for ever": func(pub crypto.PublicKey) []*x509.Certificate {
			return evil.Chain(evil.Leaf(pub, "release", never))
		},
		"an issuer of the same name": func(pub crypto.PublicKey) []*x509.Certificate {
			ca := evil.Intermediate("CA 2", never)
			return ca.Chain(ca.Leaf(pub, "somebody", never))
		},
	} {
		for _, replace := range []string{"--dry-run=false", "--replace"} {
			t.Run(name+" "+replace, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				renewing(w)
				w.image("lay", "one", "1.0")
				lay := "oci:" + w.path("lay")
				w.want(0, w.sign(lay+":1.0")...)
				w.plant("lay", "1.0", chain)
				got := w.want(7, "rechain", lay+":1.0", "--chain", w.path("new.pem"), "-o", "json", replace)
				if r := got.reason(t); r != "identity-changes" && r != "ends-earlier" {
					t.Errorf("reason %s", r)
				}
				before := w.tree("lay")
				w.want(3, "rechain", lay+":1.0", "--chain", w.path("new.pem"), replace)
				if !maps.Equal(before, w.tree("lay")) {
					t.Error("the second run wrote something")
				}
				w.env.Now = func() time.Time { return time.Now().Add(150 * 24 * time.Hour) }
				w.want(0, "verify", lay+":1.0", "--root", w.path("root.pem"))
			})
		}
	}
}
