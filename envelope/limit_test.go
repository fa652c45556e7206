package envelope

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Tens of thousands of attributes in both headers took seconds to be compared with one another; whoever may push
// could keep every verifier busy.
func TestManyAttributes(t *testing.T) {
	t.Parallel()
	f := newForger(1, "P-256")
	names := func(prefix string, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("%s%05d", prefix, i))
		}
		return list
	}
	member := func(names []string) string {
		var b strings.Builder
		for _, n := range names {
			fmt.Fprintf(&b, "%q:1,", n)
		}
		return b.String()
	}
	jws := func(protected, unprotected int) []byte {
		return f.jws(jwsParts{
			protected: "{" + member(names("a.p", protected)) + goodProtected(f.alg)[1:],
			header:    "{" + member(names("a.u", unprotected)) + `"x5c":%C}`,
		})
	}
	cose := func(protected, unprotected int) []byte {
		p := map[any]any{}
		for list := f.coseProtected(); len(list) > 0; list = list[2:] {
			p[list[0]] = list[1]
		}
		for _, n := range names("a.p", protected) {
			p[n] = 1
		}
		u := map[any]any{33: f.x5chain()}
		for _, n := range names("a.u", unprotected) {
			u[n] = 1
		}
		return f.cose(coseParts{protected: p, unprotected: u})
	}
	for format, make := range map[Format]func(protected, unprotected int) []byte{JWS: jws, COSE: cose} {
		t.Run(format.Short(), func(t *testing.T) {
			t.Parallel()
			if c, err := judge(format, make(maxExtended, 28_000)); err != nil || len(c.Extended) != maxExtended {
				t.Error(len(c.Extended), err)
			}
			start := time.Now()
			_, err := judge(format, make(28_000, 28_000))
			wantReason(t, err, codeTooLarge)
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("%s", took)
			}
		})
	}
}
