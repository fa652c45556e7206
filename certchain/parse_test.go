package certchain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// pkcs7Of wraps certificates as openssl crl2pkcs7 -nocrl does.
func pkcs7Of(t testing.TB, certs ...*x509.Certificate) []byte {
	t.Helper()
	var all []byte
	for _, c := range certs {
		all = append(all, c.Raw...)
	}
	return pkcs7With(t, der(t, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: all}), tlv(0x31, nil), nil)
}

func pkcs7With(t testing.TB, certs, signers, content []byte) []byte {
	t.Helper()
	crls := der(t, asn1.RawValue{Class: 2, Tag: 1, IsCompound: true})
	info := sequence(oidDER(t, 1, 2, 840, 113549, 1, 7, 1), content)
	sd := sequence(der(t, 1), tlv(0x31, nil), info, certs, crls, signers)
	return sequence(oidDER(t, 1, 2, 840, 113549, 1, 7, 2), der(t, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: sd}))
}

func block(typ string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b})
}

func TestParse(t *testing.T) {
	t.Parallel()
	_, certs := certtest.ChainOf(3, "P-256")
	text := Chain(certs).PEM()
	p7 := pkcs7Of(t, certs...)
	raw := slices.Concat(certs[0].Raw, certs[1].Raw, certs[2].Raw)
	between := slices.Concat([]byte("subject=leaf\nissuer=ca\n"), certtest.PEM(certs[0]), []byte("\n  1 s: intermediate\n"), certtest.PEM(certs[1:]...), []byte("# the end"))
	for name, in := range map[string][]byte{
		"PEM":                     text,
		"A07 CRLF":                bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"A07 BOM":                 append([]byte("\xef\xbb\xbf"), text...),
		"A07 text between blocks": between,
		"no newline at the end":   bytes.TrimSpace(text),
		"DER":                     raw,
		"PKCS#7 DER":              p7,
		"PKCS#7 PEM":              block("PKCS7", p7),
		"PKCS#7 PEM as CMS":       block("CMS", p7),
		"X509 CERTIFICATE":        slices.Concat(block("X509 CERTIFICATE", certs[0].Raw), certtest.PEM(certs[1:]...)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(in)
			if err != nil {
				t.Fatal(err)
			}
			if !Chain(got).Equal(certs) {
				t.Errorf("got %d other certificates", len(got))
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	key, certs := certtest.ChainOf(2, "P-256")
	text, raw := Chain(certs).PEM(), certs[0].Raw
	p7 := pkcs7Of(t, certs...)
	sixteen := bytes.Repeat(certtest.PEM(certs[0]), MaxCertificates)
	long := oversized(t)
	signer := tlv(0x31, sequence(der(t, 1)))
	content := der(t, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: der(t, []byte("hello"))})
	none := der(t, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true})
	attribute := der(t, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: der(t, asn1.RawValue{Class: 2, Tag: 1, IsCompound: true})})
	for _, tt := range []struct {
		name string
		in   []byte
		rule string
		says string
	}{
		{"empty", nil, "no-certificates", ""},
		{"blank", []byte(" \n\n"), "no-certificates", ""},
		{"garbage", []byte("hello"), "malformed-certificates", "neither PEM nor DER"},
		{"A07 private key beside certificates", append(certtest.KeyPEM(key), text...), "private-key", "private key"},
		{"A07 EC private key after certificates", append(bytes.Clone(text), block("EC PRIVATE KEY", []byte{1})...), "private-key", "private key"},
		{"PKCS#12 or key in DER", sequence(der(t, 3)), "private-key", "PKCS#12"},
		{"certificate request", block("CERTIFICATE REQUEST", []byte{1}), "unexpected-block", "CERTIFICATE REQUEST"},
		{"trusted certificate", block("TRUSTED CERTIFICATE", raw), "unexpected-block", "openssl x509"},
		{"public key", block("PUBLIC KEY", raw), "unexpected-block", "PUBLIC KEY"},
		{"A07 damaged block among good ones", append([]byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), text...), "malformed-certificates", "damaged"},
		{"A07 cut off", text[:len(text)-30], "malformed-certificates", "damaged"},
		{"A07 17 certificates", append(bytes.Clone(sixteen), text...), "too-many-certificates", "18"},
		{"A07 10,000 certificates", bytes.Repeat([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 10_000), "too-many-certificates", "10000"},
		{"V18 17 certificates in DER", bytes.Repeat(raw, 17), "too-many-certificates", "16"},
		{"V18 17 certificates in PKCS#7", pkcs7Of(t, slices.Repeat(certs[:1], 17)...), "too-many-certificates", "16"},
		{"A07 over 1 MiB", bytes.Repeat([]byte(" "), MaxBytes+1), "file-too-large", "1048576"},
		{"V18 certificate over 64 KiB", long, "certificate-too-large", "65536"},
		{"V18 certificate over 64 KiB in PEM", block("CERTIFICATE", long), "certificate-too-large", "65536"},
		{"V18 bytes after a certificate", append(bytes.Clone(raw), 0), "malformed-certificates", "1 bytes follow certificate 1"},
		{"V18 bytes after a certificate in PEM", block("CERTIFICATE", append(bytes.Clone(raw), 0)), "malformed-certificates", "trailing"},
		{"V18 bytes after PKCS#7", append(bytes.Clone(p7), 0), "malformed-pkcs7", "1 bytes follow"},
		{"V18 PKCS#7 cut off", block("PKCS7", p7[:len(p7)-1]), "malformed-pkcs7", "openssl pkcs7"},
		{"PKCS#7 of another type", sequence(oidDER(t, 1, 2, 840, 113549, 1, 7, 1), content), "malformed-pkcs7", "1.2.840.113549.1.7.1"},
		{"PKCS#7 that signs", pkcs7With(t, none, signer, nil), "malformed-pkcs7", "signed message"},
		{"PKCS#7 with content", pkcs7With(t, none, tlv(0x31, nil), content), "malformed-pkcs7", "signed message"},
		{"PKCS#7 without certificates", pkcs7With(t, none, tlv(0x31, nil), nil), "no-certificates", ""},
		{"PKCS#7 with an attribute certificate", pkcs7With(t, attribute, tlv(0x31, nil), nil), "malformed-pkcs7", "no X.509 certificate"},
		{"V18 nested sequences", bomb(), "malformed-certificates", ""},
		{"V18 nested sequences in PEM", block("CERTIFICATE", bomb()), "malformed-certificates", ""},
		{"V18 object identifier of 30 KiB", hugeOID(t, raw), "malformed-certificates", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			certs, err := Parse(tt.in)
			if got := ruleOf(t, err); got != tt.rule {
				t.Fatalf("rule %q, want %q: %v", got, tt.rule, err)
			}
			if certs != nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v does not say %q", err, tt.says)
			}
		})
	}
}

// oversized is a certificate of more than 64 KiB.
func oversized(t testing.TB) []byte {
	leaf := certtest.Root("root").Leaf(certtest.Key("P-256").Public(), "leaf", func(c *x509.Certificate) {
		for range 6000 {
			c.DNSNames = append(c.DNSNames, "a.example")
		}
	})
	return leaf.Raw
}

// bomb is a sequence in a sequence, a thousand deep.
func bomb() []byte {
	b := []byte{5, 0}
	for range 1000 {
		b = sequence(b)
	}
	return b
}

// hugeOID is a certificate whose signature algorithm is an OID of 30 KiB that does not end (GO-2025-4011's kind).
func hugeOID(t testing.TB, raw []byte) []byte {
	return recraft(t, raw, map[int][]byte{2: sequence(tlv(0x06, bytes.Repeat([]byte{0x81}, 30<<10)))})
}

// X18: 10,000 alternative names are over the size of a certificate; as many as fit are parsed and described.
func TestX18ManyNames(t *testing.T) {
	t.Parallel()
	leaf := func(n int) []byte {
		return certtest.Root("root").Leaf(certtest.Key("P-256").Public(), "leaf", func(c *x509.Certificate) {
			for range n {
				c.DNSNames = append(c.DNSNames, "a.example")
			}
		}).Raw
	}
	if _, err := Parse(leaf(10_000)); ruleOf(t, err) != "certificate-too-large" {
		t.Error(err)
	}
	certs, err := Parse(leaf(4000))
	if err != nil {
		t.Fatal(err)
	}
	if d := Describe(certs[0]); d.Subject != "C=DE, ST=BE, O=Acme, CN=leaf" {
		t.Error(d)
	}
}

// GO-2025-4009: pem.Decode takes quadratic time over blocks that are begun and not ended. A MiB of them, and of the forms
// that come nearest without being counted, is refused in far less than the minutes that it would take.
func TestA07GarbageIsQuick(t *testing.T) {
	t.Parallel()
	fill := func(line string) []byte { return bytes.Repeat([]byte(line), MaxBytes/len(line)) }
	for name, in := range map[string][]byte{
		"begin lines":                    fill("-----BEGIN CERTIFICATE-----\n"),
		"begin lines without an end":     fill("-----BEGIN \n"),
		"begin lines with CR":            fill("-----BEGIN X-----\r\n"),
		"begin without newline":          fill("-----BEGIN "),
		"end lines":                      append([]byte("-----BEGIN CERTIFICATE-----\n"), fill("-----END CERTIFICATE-----x\n")[:MaxBytes-64]...),
		"dashes":                         append([]byte("-----BEGIN A-----\n"), fill("-----")[:MaxBytes-64]...),
		"headers":                        append([]byte("-----BEGIN A-----\n"), fill("a: b\n")[:MaxBytes-64]...),
		"fifteen begin lines and a tail": append(bytes.Repeat([]byte("-----BEGIN A-----\n"), 15), fill("\n-----END A----\n")[:MaxBytes-512]...),
		"base64":                         append([]byte("-----BEGIN A-----\n"), []byte(base64.StdEncoding.EncodeToString(fill("a")[:MaxBytes/2]))...),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if _, err := Parse(in); err == nil {
				t.Error("accepted")
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("refused after %s", d)
			}
		})
	}
}

// What openssl writes is read.
func TestParseOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl on PATH; TestParse has the same structures made by hand")
	}
	_, certs := certtest.ChainOf(3, "P-256")
	dir := t.TempDir()
	chain := filepath.Join(dir, "chain.pem")
	write(t, chain, Chain(certs).PEM())
	for _, args := range [][]string{
		{"crl2pkcs7", "-nocrl", "-certfile", chain},
		{"crl2pkcs7", "-nocrl", "-certfile", chain, "-outform", "DER"},
	} {
		out, err := exec.Command(openssl, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(out)
		if err != nil {
			t.Errorf("openssl %s: %v", strings.Join(args, " "), err)
			continue
		}
		if ordered, err := Order(got); err != nil || !ordered.Equal(certs) {
			t.Errorf("openssl %s: another chain, %v", strings.Join(args, " "), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, certs := certtest.ChainOf(3, "P-256")
	f.Add(Chain(certs).PEM())
	f.Add(certs[0].Raw)
	f.Add(slices.Concat(certs[0].Raw, certs[1].Raw))
	f.Add(pkcs7Of(f, certs...))
	f.Add(block("PKCS7", pkcs7Of(f, certs...)))
	f.Add(recraft(f, certs[0].Raw, map[int][]byte{6: dsaKey(f)}))
	f.Add(recraft(f, certs[0].Raw, map[int][]byte{6: unknownKey(f)}))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := Parse(b)
		if err != nil {
			var e *RuleError
			if !errors.As(err, &e) {
				t.Fatalf("error without a rule: %v", err)
			}
			return
		}
		if len(certs) == 0 || len(certs) > MaxCertificates {
			t.Fatalf("%d certificates", len(certs))
		}
		again, err := Parse(Chain(certs).PEM())
		if err != nil || !Chain(again).Equal(certs) {
			t.Fatalf("the PEM of what was read is read otherwise: %v", err)
		}
		// None of these may panic, whatever a certificate holds.
		Chain(certs).Describe()
		_ = Chain(certs).Check(time.Now())
		_ = Chain(certs).CheckStock()
		if ordered, err := Order(certs); err == nil && len(ordered) != len(certs) {
			t.Fatal("Order lost a certificate")
		}
		for _, c := range certs {
			_, _ = Build(c.PublicKey, certs, time.Now())
		}
	})
}

// FuzzOrder picks certificates of a web of cross-signs by the bits of n and shuffles them.
func FuzzOrder(f *testing.F) {
	a, b := certtest.Root("a"), certtest.Root("b")
	ab, ba := crossSign(a, b), crossSign(b, a)
	i := a.Intermediate("i")
	ib := crossSign(i, b)
	key := certtest.Key("P-256")
	web := []*x509.Certificate{a.Certificate, b.Certificate, ab.Certificate, ba.Certificate, i.Certificate, ib.Certificate,
		i.Leaf(key.Public(), "leaf"), a.Leaf(key.Public(), "leaf"), certtest.SelfSigned(key, "alone"),
		a.Intermediate("i").Certificate}
	for _, n := range []uint16{0, 1, 1<<6 | 1<<4 | 1, 1<<6 | 1<<5 | 1<<1, 0x3ff, 1<<2 | 1<<3 | 1<<7, 1<<8 | 1} {
		f.Add(n, uint8(0))
		f.Add(n, uint8(3))
	}
	f.Fuzz(func(t *testing.T, n uint16, turn uint8) {
		var certs []*x509.Certificate
		for i, c := range web {
			if n>>i&1 == 1 {
				certs = append(certs, c)
			}
		}
		turned := slices.Clone(certs)
		if len(certs) > 0 {
			k := int(turn) % len(certs)
			turned = append(slices.Clone(certs[k:]), certs[:k]...)
		}
		got, err := Order(certs)
		again, err2 := Order(turned)
		if (err == nil) != (err2 == nil) || !got.Equal(again) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("the order matters: %v, %v", err, err2)
		}
		if err == nil && (len(got) != len(certs) || got.checkLinks() != nil) {
			t.Fatalf("no chain: %v", got.checkLinks())
		}
		built, err := Build(key.Public(), certs, time.Now())
		again, err2 = Build(key.Public(), turned, time.Now())
		if (err == nil) != (err2 == nil) || !built.Equal(again) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("the order matters to Build: %v, %v", err, err2)
		}
		if err == nil && (built.Check(time.Now()) != nil || built.Matches(key.Public()) != nil) {
			t.Fatal("a chain was built that does not pass")
		}
	})
}
