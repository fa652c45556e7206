package certchain

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// What was found good once is judged by time again each time, and nothing else profits from it.
func TestGoodChainsAreRememberedAsTheyAre(t *testing.T) {
	t.Parallel()
	_, certs := certtest.ChainOf(3, "P-256")
	c, now := Chain(certs), time.Now()
	for range 2 {
		if err := c.Check(now); err != nil {
			t.Fatal(err)
		}
		if err := c.CheckStock(); err != nil {
			t.Fatal(err)
		}
	}
	if !keptRules.has(c.sum()) || !keptStock.has(c.sum()) {
		t.Error("a good chain is not remembered")
	}
	var rule *RuleError
	if err := c.Check(c.Leaf().NotAfter.Add(time.Second)); !errors.As(err, &rule) || rule.Rule != ruleExpired {
		t.Errorf("after its end: %v", err)
	}
	for i := range c {
		der := bytes.Clone(c[i].Raw)
		der[len(der)-1] ^= 1 // of the signature
		forged, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		bad := append(Chain{}, c...)
		bad[i] = forged
		for range 2 {
			if bad.Check(now) == nil || bad.CheckStock() == nil {
				t.Errorf("with certificate %d forged it is accepted", i)
			}
		}
		if keptRules.has(bad.sum()) || keptStock.has(bad.sum()) {
			t.Errorf("with certificate %d forged it is remembered", i)
		}
	}
	if short := c[:2]; short.Check(now) == nil || short.CheckStock() == nil {
		t.Error("without its root it is accepted")
	}
}

func TestMemoIsBounded(t *testing.T) {
	t.Parallel()
	var m memo
	for i := range 3 * maxMemo {
		m.add([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if len(m.good) > maxMemo {
		t.Errorf("%d remembered", len(m.good))
	}
}
