package certchain

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

func mustName(t testing.TB, s string) Name {
	t.Helper()
	n, err := ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// rawName encodes attributes one to an RDN, each given by OID, string tag and bytes.
func rawName(t testing.TB, attributes ...any) []byte {
	t.Helper()
	var body []byte
	for i := 0; i < len(attributes); i += 3 {
		value := tlv(byte(attributes[i+1].(int)), []byte(attributes[i+2].(string)))
		body = append(body, tlv(0x31, sequence(encodeOID(attributes[i].(string)), value))...)
	}
	return tlv(0x30, body)
}

func TestParseName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"C=US, ST=WA, O=Acme":               "C=US, ST=WA, O=Acme",
		"C=US,ST=WA,O=Acme":                 "C=US, ST=WA, O=Acme",
		"c=US,S=WA,o=Acme":                  "C=US, ST=WA, O=Acme",
		"CN=x,OU=b,OU=a,O=Acme,C=US":        "C=US, O=Acme, OU=a, OU=b, CN=x",
		"C=US,O=Acme,OU=a,OU=b,CN=x":        "C=US, O=Acme, OU=a, OU=b, CN=x",
		"CN=x,DC=example,DC=com":            "CN=x, DC=com, DC=example",
		"DC=com,DC=example,CN=x":            "CN=x, DC=com, DC=example",
		"DC=example,DC=com":                 "DC=com, DC=example",
		`O=Acme\, Inc`:                      `O=Acme\, Inc`,
		`O=Acme\2C Inc`:                     `O=Acme\, Inc`,
		`CN=\ a\ `:                          `CN=\ a\ `,
		`CN=\20`:                            `CN=\ `,
		`CN=\#a`:                            `CN=\#a`,
		`CN=a#b=c`:                          `CN=a#b=c`,
		`CN=\"\+\,\;\<\=\>\\`:               `CN=\"\+\,\;\<=\>\\`,
		`CN=Lu\C4\8Di\C4\87`:                "CN=Lučić",
		"CN=Lučić":                          "CN=Lučić",
		"CN=a+OU=b,C=DE":                    "C=DE, CN=a+OU=b",
		"CN=a+ OU=b":                        "CN=a+OU=b",
		"2.5.4.3=x":                         "CN=x",
		"1.3.6.1.4.1.99999.1=x":             "1.3.6.1.4.1.99999.1=x",
		"1.2.3=#04024869":                   "1.2.3=#04024869",
		"O=#0C0441636D65":                   "O=Acme",
		"CN=a,E=a@b.example":                "CN=a, E=a@b.example",
		"emailAddress=a@b.example":          "E=a@b.example",
		"STREET=1 Way,UID=u,SERIALNUMBER=7": "STREET=1 Way, UID=u, SERIALNUMBER=7",
		`CN=a\00b`:                          `CN=a\00b`,
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			n := mustName(t, in)
			if got := n.String(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if got := NameOf(n.DER()); got != want {
				t.Errorf("after DER: %s, want %s", got, want)
			}
			if again := mustName(t, n.String()); !again.Contains(n) || !n.Contains(again) {
				t.Errorf("%s does not read back as itself", n)
			}
		})
	}
}

func TestV27ParseNameRefuses(t *testing.T) {
	t.Parallel()
	for in, rule := range map[string]string{
		"":                                   ruleName,
		" ":                                  ruleName,
		"Acme":                               ruleName,
		"C=US,":                              ruleName,
		"C=US, ":                             ruleName,
		",C=US":                              ruleName,
		"C=US,,O=Acme":                       ruleName,
		"C=US;O=Acme":                        ruleName,
		"C=US/O=Acme":                        "", // one value with a slash
		"/C=US/O=Acme":                       ruleName,
		"C =US":                              ruleName,
		"C= US":                              ruleName,
		" C=US":                              ruleName,
		"C=US ,O=Acme":                       ruleName,
		"O=Acme ":                            ruleName,
		"O=":                                 ruleName,
		"O=,C=US":                            ruleName,
		"=Acme":                              ruleName,
		"X=Acme":                             ruleName,
		"ſT=WA":                              ruleName, // U+017F, which becomes S in upper case
		"OID.2.5.4.3=x":                      ruleName,
		"2.5.4.03=x":                         ruleName,
		"2=x":                                ruleName,
		"3.1=x":                              ruleName,
		"1.40=x":                             ruleName,
		"2.5.4.3.=x":                         ruleName,
		"2.99999999999999999999=x":           ruleName,
		"2.2147483647=x":                     ruleName,
		`O="Acme"`:                           ruleName,
		"O=<Acme>":                           ruleName,
		`O=Acme\`:                            ruleName,
		`O=Acme\q`:                           ruleName,
		`O=Acme\4`:                           ruleName,
		`O=\FF`:                              ruleName,
		"O=a\x00b":                           ruleName,
		"O=a\nb":                             ruleName,
		"O=\xff":                             ruleName,
		"O=#":                                ruleName,
		"O=#0C":                              ruleName,
		"O=#0C0441636D6":                     ruleName,
		"O=#0C0441636D6500":                  ruleName,
		"O=#0C810441636D65":                  ruleName, // a length that is not minimal
		"O=#240641636D65":                    ruleName,
		"O=#0C00":                            ruleName,
		"O=#zz":                              ruleName,
		"O=Acme, O=Evil":                     ruleNameDuplicate,
		"O=Acme+O=Evil":                      ruleNameDuplicate,
		"CN=a, 2.5.4.3=b":                    ruleNameDuplicate,
		"C=US, C=DE":                         ruleNameDuplicate,
		"OU=a, OU=a":                         ruleNameDuplicate,
		"OU=a, OU=#13016100":                 ruleName,
		"OU=a, OU=#0C0161":                   ruleNameDuplicate,
		"O=" + strings.Repeat("a", 4<<10):    ruleName,
		"O=" + strings.Repeat("a", 1<<20):    ruleName,
		strings.Repeat("OU=a+", 500) + "C=U": ruleNameDuplicate,
	} {
		t.Run("V27 "+shorten(in), func(t *testing.T) {
			t.Parallel()
			n, err := ParseName(in)
			if got := ruleOf(t, err); got != rule {
				t.Errorf("rule %q, want %q: %v, %v", got, rule, n, err)
			}
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func bmp(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		b.WriteByte(byte(u >> 8))
		b.WriteByte(byte(u))
	}
	return b.String()
}

// V27 and V28: names match by type and characters, in whichever string type they are written, and in no other way.
func TestV27V28Contains(t *testing.T) {
	t.Parallel()
	const o, c, st, ou, cn = "2.5.4.10", oidCountry, oidProvince, "2.5.4.11", "2.5.4.3"
	const utf8, printable, t61, ia5, bmpTag, universal = 12, 19, 20, 22, 30, 28
	acme := rawName(t, c, printable, "US", st, printable, "WA", o, utf8, "Acme", ou, utf8, "a", ou, utf8, "b")
	for _, tt := range []struct {
		name string
		raw  []byte
		part string
		want bool
	}{
		{"equal", acme, "C=US, ST=WA, O=Acme, OU=a, OU=b", true},
		{"part", acme, "C=US, ST=WA, O=Acme", true},
		{"the other order", acme, "O=Acme,ST=WA,C=US", true},
		{"one of two OU", acme, "OU=b", true},
		{"a third OU", acme, "OU=b, OU=c", false},
		{"by OID", acme, "2.5.4.10=Acme", true},
		{"by hex", acme, "O=#0C0441636D65", true},
		{"by hex, another string type", acme, "O=#130441636D65", true},
		{"V27 hex of another kind of value", acme, "O=#040441636D65", false},
		{"V28 lower case in the part", acme, "O=acme", false},
		{"V28 lower case in the leaf", rawName(t, o, utf8, "acme"), "O=Acme", false},
		{"V28 comma in the leaf", rawName(t, o, utf8, "Acme, Inc"), "O=Acme", false},
		{"V28 comma in both", rawName(t, o, utf8, "Acme, Inc"), `O=Acme\, Inc`, true},
		{"V28 space at the end of the leaf", rawName(t, o, utf8, "Acme "), "O=Acme", false},
		{"V28 space at the end of both", rawName(t, o, utf8, "Acme "), `O=Acme\ `, true},
		{"V28 two spaces", rawName(t, o, utf8, "Acme  Inc"), "O=Acme Inc", false},
		{"V28 another type", rawName(t, ou, utf8, "Acme"), "O=Acme", false},
		{"V27 name within a name", rawName(t, cn, utf8, "x, O=Acme"), "O=Acme", false},
		{"V27 value with =#", rawName(t, o, utf8, "=#0C0441636D65"), "O=Acme", false},
		{"V27 value that looks like hex", rawName(t, o, utf8, "#0C0441636D65"), "O=Acme", false},
		{"V27 embedded NUL", rawName(t, o, utf8, "Acme\x00.evil"), "O=Acme", false},
		{"V27 embedded NUL in both", rawName(t, o, utf8, "Acme\x00.evil"), `O=Acme\00.evil`, true},
		{"V27 homoglyph", rawName(t, o, utf8, "Асme"), "O=Acme", false},
		{"V27 another normal form", rawName(t, o, utf8, "Café"), "O=Cafe\u0301", false},
		{"V27 duplicated O", rawName(t, o, utf8, "Acme", o, utf8, "Evil"), "O=Acme", false},
		{"V27 duplicated O, same value", rawName(t, o, utf8, "Acme", o, printable, "Acme"), "O=Acme", false},
		{"V27 duplicated CN, not asked for", rawName(t, o, utf8, "Acme", cn, utf8, "a", cn, utf8, "b"), "O=Acme", true},
		{"PrintableString", rawName(t, o, printable, "Acme"), "O=Acme", true},
		{"IA5String", rawName(t, o, ia5, "Acme"), "O=Acme", true},
		{"V27 BMPString", rawName(t, o, bmpTag, bmp("Acme")), "O=Acme", true},
		{"V27 BMPString beyond ASCII", rawName(t, o, bmpTag, bmp("Čapek")), "O=Čapek", true},
		{"V27 BMPString of odd length", rawName(t, o, bmpTag, bmp("Acme")+"\x00"), "O=Acme", false},
		{"V27 BMPString with surrogates", rawName(t, o, bmpTag, bmp("\U0001F600")), "O=\U0001F600", false},
		{"V27 BMPString bytes as UTF-8", rawName(t, o, bmpTag, "Acme"), "O=Acme", false},
		{"UniversalString", rawName(t, o, universal, "\x00\x00\x00A"), "O=A", true},
		{"V27 UniversalString out of range", rawName(t, o, universal, "\x00\x11\x00\x00"), "O=A", false},
		{"V27 T61String", rawName(t, o, t61, "Acme"), "O=Acme", true},
		{"V27 T61String beyond ASCII", rawName(t, o, t61, "Caf\xe9"), "O=Café", false},
		{"V27 T61String beyond ASCII, its bytes", rawName(t, o, t61, "Caf\xe9"), "O=#" + hex.EncodeToString(tlv(t61, []byte("Caf\xe9"))), true},
		{"V27 UTF8String that is not UTF-8", rawName(t, o, utf8, "Acme\xff"), "O=Acme", false},
		{"V27 PrintableString with an underscore", rawName(t, o, printable, "A_cme"), "O=A_cme", false},
		{"multi-valued in the part", acme, "O=Acme+OU=a", true},
		{"nothing in common", acme, "CN=x", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := NameFrom(tt.raw)
			if err != nil {
				t.Fatal(err)
			}
			if got := n.Contains(mustName(t, tt.part)); got != tt.want {
				t.Errorf("%s contains %s: %v, want %v", n, tt.part, got, tt.want)
			}
			if !bytes.Equal(n.DER(), tt.raw) {
				t.Errorf("DER of %s differs from what was read", n)
			}
		})
	}
	n, err := NameFrom(acme)
	if err != nil || n.Contains(Name{}) {
		t.Error("an empty name is contained")
	}
}

func TestNameFromRefuses(t *testing.T) {
	t.Parallel()
	pair := sequence(encodeOID("2.5.4.3"), tlv(12, []byte("x")))
	for name, raw := range map[string][]byte{
		"nothing":                nil,
		"no sequence":            tlv(0x31, nil),
		"bytes after":            append(rawName(t, "2.5.4.3", 12, "x"), 0),
		"no set":                 tlv(0x30, pair),
		"empty set":              tlv(0x30, tlv(0x31, nil)),
		"pair without value":     tlv(0x30, tlv(0x31, sequence(encodeOID("2.5.4.3")))),
		"pair with a third":      tlv(0x30, tlv(0x31, sequence(encodeOID("2.5.4.3"), tlv(12, []byte("x")), []byte{5, 0}))),
		"bytes after the pair":   tlv(0x30, tlv(0x31, append(bytes.Clone(pair), 1))),
		"V27 larger than 64 KiB": rawName(t, "2.5.4.3", 12, strings.Repeat("a", 1<<20)),
	} {
		if _, err := NameFrom(raw); ruleOf(t, err) != ruleName {
			t.Errorf("%s: %v", name, err)
		}
		if got := NameOf(raw); !strings.HasPrefix(got, "#") || len(got) > 300 {
			t.Errorf("%s is shown as %.40s", name, got)
		}
	}
	if n, err := NameFrom([]byte{0x30, 0}); err != nil || !n.Empty() || n.String() != "" {
		t.Errorf("the empty name: %v, %v", n, err)
	}
}

// What a screen would hide or obey is shown as hex.
func TestNameOfEscapes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\u202eb":    `CN=a\E2\80\AEb`,
		"a\x1b[31mb":  `CN=a\1B[31mb`,
		"a\r\nb":      `CN=a\0D\0Ab`,
		"a\u200bb":    `CN=a\E2\80\8Bb`,
		"a\u2028b":    `CN=a\E2\80\A8b`,
		"a\u2066b":    `CN=a\E2\81\A6b`,
		"a\u00a0b":    `CN=a\C2\A0b`,
		"\ufeffa":     `CN=\EF\BB\BFa`,
		"a\x7f":       `CN=a\7F`,
		"日本, Ltd":     `CN=日本\, Ltd`,
		"x, O=Acme":   `CN=x\, O=Acme`,
		"a\u0085b":    `CN=a\C2\85b`,
		"\U000E0041a": `CN=\F3\A0\81\81a`,
	} {
		if got := NameOf(rawName(t, "2.5.4.3", 12, in)); got != want {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
}

// Our DER is what Go writes, so that certificates issued by others compare equal as bytes where a CA compares so.
func TestNameDERIsGos(t *testing.T) {
	t.Parallel()
	want, err := asn1.Marshal(pkix.Name{Country: []string{"DE"}, Organization: []string{"Äcme"}, CommonName: "release 1"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	if got := mustName(t, "CN=release 1,O=Äcme,C=DE").DER(); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	leaf := certtest.Root("root").Leaf(certtest.Key("P-256").Public(), "leaf")
	if n, err := NameFrom(leaf.RawSubject); err != nil || !bytes.Equal(n.DER(), leaf.RawSubject) {
		t.Errorf("%v, %v", n, err)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"C=US, ST=WA, O=Acme", `CN=\ a\ `, "O=#0C0441636D65", "1.2.3=#04024869", "CN=a+OU=b,C=DE", `O=a\2Cb`, "DC=a,DC=b", "2.999=x", `CN=\C4\8D`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			ruleOf(t, err)
			return
		}
		if !n.Contains(n) {
			t.Fatalf("%q does not contain itself", s)
		}
		back, err := NameFrom(n.DER())
		if err != nil || !back.Contains(n) || !n.Contains(back) {
			t.Fatalf("%q became %q: %v", s, back, err)
		}
		again, err := ParseName(n.String())
		if len(n.String()) <= maxNameText && (err != nil || !again.Contains(n) || !n.Contains(again)) {
			t.Fatalf("%q is written %q: %v", s, n, err)
		}
	})
}
