package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestCopyGateReadsNothingTwice: what the gate judges it judges of what copy reads anyway, with envelopes inside of their manifests
// and outside.
func TestCopyGateReadsNothingTwice(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{true, false} {
		for _, gates := range [][]string{
			nil,
			{"--root", "root.pem"},
			{"--root", "root.pem", "--only-accepted"},
			{"--require-signature"},
			{"--chain", "new.pem"},
			{"--chain", "new.pem", "--root", "root.pem", "--only-accepted"},
		} {
			t.Run(fmt.Sprint("inline ", inline, gates), func(t *testing.T) {
				t.Parallel()
				c := newCustoms(t)
				c.sbom = c.attach(c.root, "application/spdx+json", 1)
				c.signed(":1.0", "", "--recursive")
				c.signed(":1.0", "", "--again")
				if !inline {
					c.outline()
				}
				from, to := regtest.New(t, regtest.WithAPI), regtest.New(t, regtest.WithAPI)
				c.want(0, "copy", "oci:"+c.path("lay")+":1.0", from.Host+"/app", "-q")
				args := []string{"copy", from.Host + "/app:1.0", to.Host + "/app", "-q"}
				for _, a := range gates {
					if a[0] != '-' {
						a = c.path(a)
					}
					args = append(args, a)
				}
				from.Reset()
				c.want(0, args...)
				seen := map[string]int{}
				for _, r := range from.Requests() {
					if seen[r.Method+" "+r.Path]++; seen[r.Method+" "+r.Path] > 1 {
						t.Errorf("asked again: %s %s", r.Method, r.Path)
					}
				}
				if len(seen) < 8 {
					t.Errorf("only %d requests were seen", len(seen))
				}
				c.want(0, "verify", to.Host+"/app:1.0", "--root", c.path("root.pem"), "-q")
			})
		}
	}
}

// outline takes the envelopes out of the manifests of all signatures, as other tools write them, each beside the one that holds it.
func (c *customs) outline() {
	c.t.Helper()
	ctx := context.Background()
	for n := range c.graph().Root.All {
		if !n.IsSignature() {
			continue
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(n.Manifest.Bytes, &m); err != nil {
			c.t.Fatal(err)
		}
		m.Layers[0].Data = nil
		b, err := json.Marshal(m)
		if err != nil || bytes.Equal(b, n.Manifest.Bytes) {
			c.t.Fatal("nothing was taken out: ", err)
		}
		if err := c.repo.Attach(ctx, *m.Subject, registry.NewManifest(ocispec.MediaTypeImageManifest, b)); err != nil {
			c.t.Fatal(err)
		}
	}
	c.open()
}
