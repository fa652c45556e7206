package envelope_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/opencontainers/go-digest"
)

func TestTimestampBelow(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	root := certtest.Root("root")
	key := certtest.Key("P-256")
	chain := root.Chain(root.Leaf(key.Public(), "release"))
	bare, err := envelope.Sign(t.Context(), envelope.JWS, envelope.Payload{MediaType: "text/plain", Digest: digest.FromString("x"), Size: 1}, kmstest.Key(key), chain,
		envelope.Options{SigningTime: now})
	if err != nil {
		t.Fatal(err)
	}
	stamped := func(a *tsatest.Authority) envelope.Content {
		t.Helper()
		signature := bare.Unverified().Signature
		e, err := bare.WithTimestamp(a.Token(signature, now))
		if err != nil {
			t.Fatal(err)
		}
		c, err := e.Verify()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one := tsatest.New(tsatest.Options{})
	sibling := tsatest.New(tsatest.Options{Root: one.Root, CA: one.CA})
	cousin := tsatest.New(tsatest.Options{Root: one.Root})
	namesake := tsatest.New(tsatest.Options{})
	forger := tsatest.New(tsatest.Options{Root: one.Root, CA: one.CA, Lie: tsatest.BrokenSign})
	of := stamped(one).TimestampCertificates()
	for name, tc := range map[string]struct {
		c     envelope.Content
		certs []*x509.Certificate
		want  bool
	}{
		"the same certificate":      {stamped(one), of[:1], true},
		"the same CA":               {stamped(sibling), of, true},
		"another CA, root unknown":  {stamped(cousin), of, false},
		"another CA, root given":    {stamped(cousin), one.Roots(), true},
		"another authority's name":  {stamped(namesake), of, false},
		"a signature that is wrong": {stamped(forger), of, false},
		"no certificates":           {stamped(one), nil, false},
		"no timestamp":              {bare.Unverified(), of, false},
	} {
		if got := tc.c.TimestampBelow(tc.certs); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
