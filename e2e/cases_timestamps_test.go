package e2e

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/e2e/judge"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/envelope/tsatest"
)

// X08 to X12 at the command line: what imprint verify says by a policy without a section "timestamps" and with each use of
// one, and that notation says the same at the setting that means it, but for what imprint refuses on purpose.
func TestCasesTimestamps(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	now := time.Now()
	long := certtest.Valid(now.AddDate(-5, 0, 0), now.AddDate(5, 0, 0))
	root := certtest.Root("stamp root", long)
	ended, begun := now.Add(-24*time.Hour).Truncate(time.Second), now.Add(-50*24*time.Hour).Truncate(time.Second)
	mine := tsatest.New(tsatest.Options{})
	below := func(o tsatest.Options) *tsatest.Authority {
		o.Root, o.CA = mine.Root, mine.CA
		return tsatest.New(o)
	}
	usage := func(critical bool, ids ...asn1.ObjectIdentifier) *tsatest.Authority {
		return below(tsatest.Options{Edits: []certtest.Edit{func(c *x509.Certificate) {
			value, _ := asn1.Marshal(ids)
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}}
		}}})
	}
	stamping, serving := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	by := func(tsa *tsatest.Authority, at time.Time) func([]byte) []byte {
		return func(signature []byte) []byte { return tsa.Token(signature, at) }
	}
	inside := begun.Add(time.Hour)
	type said struct{ none, always, after string } // "": accepted
	const expired, malformed, untrusted, outside = "certificate-expired", "timestamp-malformed", "timestamp-untrusted", "timestamp-outside-validity"
	for _, row := range []struct {
		name     string
		lasts    bool // the chain holds today
		token    func(signature []byte) []byte
		want     said
		stricter bool // than notation
	}{
		{"X08 expired leaf, no timestamp", false, nil, said{expired, "timestamp-missing", expired}, false},
		{"no timestamp", true, nil, said{"", "timestamp-missing", ""}, false},
		{"X09 expired leaf, timestamp inside", false, by(mine, inside), said{expired, "", ""}, false},
		{"timestamp inside", true, by(mine, inside), said{}, false},
		{"X10 straddles the end", false, by(below(tsatest.Options{Accuracy: 2 * time.Second}), ended.Add(-time.Second)), said{expired, outside, outside}, false},
		{"X10 ends with the end", false, by(below(tsatest.Options{Accuracy: time.Second}), ended.Add(-time.Second)), said{expired, "", ""}, false},
		{"X10 no accuracy, at the end", false, by(mine, ended), said{expired, "", ""}, false},
		{"X10 after the end", false, by(mine, ended.Add(time.Second)), said{expired, outside, outside}, false},
		{"X10 accurate to ten minutes", false, by(below(tsatest.Options{Accuracy: 10 * time.Minute}), inside), said{expired, "timestamp-inexact", "timestamp-inexact"}, true},
		{"X10 accurate to a year", false, by(below(tsatest.Options{Accuracy: 365 * 24 * time.Hour}), inside), said{expired, "timestamp-inexact", "timestamp-inexact"}, false},
		{"X10 in the future", true, by(mine, now.Add(time.Hour)), said{"", "timestamp-in-the-future", ""}, true},
		{"X11 over another signature", false, func([]byte) []byte { return mine.Token([]byte("another"), inside) }, said{expired, malformed, malformed}, false},
		{"X11 over the payload", false, by(mine, inside), said{expired, malformed, malformed}, false},
		{"X11 another authority", false, by(tsatest.New(tsatest.Options{}), inside), said{expired, untrusted, untrusted}, false},
		{"X11 usage not critical", false, by(usage(false, stamping), inside), said{expired, untrusted, untrusted}, false},
		{"X11 usage not alone", false, by(usage(true, stamping, serving), inside), said{expired, untrusted, untrusted}, false},
		{"X12 garbage", true, func([]byte) []byte { return []byte("garbage") }, said{"", malformed, ""}, false},
		{"X12 garbage, expired leaf", false, func([]byte) []byte { return []byte("garbage") }, said{expired, malformed, malformed}, false},
	} {
		for _, format := range []string{jwsType, coseType} {
			t.Run(row.name+" "+format, func(t *testing.T) {
				t.Parallel()
				d := newDesk(t, f, t.Name())
				until := ended
				if row.lasts {
					until = now.AddDate(0, 0, 20)
				}
				chain := root.Chain(root.Leaf(d.key.Public(), "desk", certtest.Valid(begun, until)))
				p := &pit{now: now, subject: d.subject, key: d.key}
				c := trap{format: format, scheme: envelope.SchemeX509, old: chain, stamped: row.token != nil}
				token := row.token
				if strings.HasSuffix(row.name, "over the payload") {
					token = func([]byte) []byte { return mine.Token([]byte(newJWS(d.key, chain, d.subject).payload), inside) }
				}
				signature := f.attach(d.repo, d.subject, format, p.seal(c, begun, time.Time{}, token))
				d.file("stamp-root.pem", certtest.PEM(root.Certificate))
				d.file("tsa.pem", certtest.PEM(mine.Root.Certificate))
				for setting, want := range map[judge.Setting]string{judge.NoTSARoot: row.want.none, judge.Always: row.want.always, judge.AfterCertExpiry: row.want.after} {
					section := map[judge.Setting]string{
						judge.Always:          "timestamps: {roots: [tsa.pem], use: always}\n",
						judge.AfterCertExpiry: "timestamps: {roots: [tsa.pem], use: after-cert-expiry}\n",
					}[setting]
					policy := d.file(string(setting)+".yaml", fmt.Appendf(nil, "version: 1\nroots: {r: stamp-root.pem}\n%sscopes: {%q: [r]}\n", section, f.Host))
					code := 0
					if want != "" {
						code = 1
					}
					o := d.want(t, code, want, "verify", d.ref, "--policy", policy)
					if status, section := o.field(t, "signatures.0.timestamp.status"), section != ""; row.token != nil && section == (status == "ignored") {
						t.Errorf("%s: the timestamp is %q", setting, status)
					}
					if text := d.run(t, "verify", d.ref, "--policy", policy); want == "" && (row.token != nil) != strings.Contains(text.stdout, "\n  timestamp   ") && section == "" {
						t.Errorf("%s: of its timestamp the screen says nothing, or what is not so\n%s", setting, text.stdout)
					}
					err := judge.VerifyAt(t.Context(), d.ref, signature.Digest, setting, []*x509.Certificate{root.Certificate}, mine.Roots())
					switch {
					case want == "" && err != nil:
						t.Errorf("%s: imprint accepts, notation says %v", setting, err)
					case want != "" && err == nil && !(row.stricter && strings.HasPrefix(want, "timestamp-")):
						t.Errorf("%s: imprint says %s, notation accepts", setting, want)
					}
				}
			})
		}
	}
}
