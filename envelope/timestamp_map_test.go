package envelope

import (
	"crypto"
	"fmt"
	"testing"
	"time"
)

// The head of the unprotected header grows when its map outgrows it.
func TestWithTimestampGrowsTheMap(t *testing.T) {
	t.Parallel()
	r := renew("P-256")
	fo := forger{key: r.key, chain: r.old, alg: "ES256", hash: crypto.SHA256}
	for _, n := range []int{1, 22, 23, 24, 60} {
		unprotected := pairs{33, fo.x5chain()}
		for i := 1; i < n; i++ {
			unprotected = append(unprotected, fmt.Sprintf("com.example.%d", i), i)
		}
		e, err := Parse(string(COSE), fo.cose(coseParts{unprotected: unprotected}))
		if err != nil {
			t.Fatal(err)
		}
		c, err := e.Verify()
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{signedAt(), signedAt().Add(-time.Hour)} { // put in, then exchanged
			if e, err = e.WithTimestamp(token(c.Signature, at, nil, somePolicy)); err != nil {
				t.Fatalf("%d entries: %v", n, err)
			}
		}
		h, err := readHead(e.Bytes()[e.headerStart:])
		if err != nil || h.arg != uint64(n+1) {
			t.Errorf("%d entries: then %d, %v", n, h.arg, err)
		}
	}
}
