package plugin_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/pkcs11test"
)

const pin = "canary-4711"

var payload = []byte("what is signed")

// signing is a generate-signature request for a key of a's kind.
func signing(t testing.TB, pub crypto.PublicKey, config ...string) map[string]any {
	t.Helper()
	a, err := kms.AlgorithmOf(pub)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{"keySpec": a.Spec, "hashAlgorithm": a.Hash.String(), "payload": payload}
	maps.Copy(m, configured(config...))
	return m
}

// signs wants a signature that the key's own algorithm verifies strictly, and returns the answer.
func signs(t testing.TB, h *pkcs11test.HSM, uri string, pub crypto.PublicKey, config ...string) outcome {
	t.Helper()
	o := ask(t, h, "generate-signature", uri, signing(t, pub, config...))
	var sig []byte
	o.read(t, "signature", &sig)
	a, err := kms.AlgorithmOf(pub)
	if err != nil {
		t.Fatal(err)
	}
	if pub, ok := pub.(*ecdsa.PublicKey); ok {
		if sig, err = kms.DERFromRaw(pub, sig); err != nil {
			t.Errorf("the signature is not r and s: %v", err)
		}
	}
	if err := a.Verify(pub, payload, sig); err != nil {
		t.Error(err)
	}
	if id := o.text(t, "keyId"); id != uri {
		t.Errorf("keyId is %s", id)
	}
	return o
}

// Every algorithm: describe-key tells all without a PIN, and the signature is the contract's.
func TestSixAlgorithms(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	ca := root.Intermediate("CA")
	token := pkcs11test.Token{Label: "hsm", PIN: pin, Certificates: []*x509.Certificate{root.Certificate, ca.Certificate, certtest.Root("stranger").Certificate}}
	for i, algorithm := range certtest.Algorithms {
		key := certtest.Key(algorithm)
		token.Keys = append(token.Keys, pkcs11test.Pair(algorithm, byte(i), key, ca.Leaf(key.Public(), algorithm)))
	}
	if len(token.Keys) != 6 {
		t.Fatalf("%d algorithms", len(token.Keys))
	}
	h := pkcs11test.New(t, token).Around(t)
	for _, k := range token.Keys {
		pub := k.Signer.Public()
		a, err := kms.AlgorithmOf(pub)
		if err != nil {
			t.Fatal(err)
		}
		chain := [][]byte{k.Certificates[0].Raw, ca.Certificate.Raw, root.Certificate.Raw}
		h.Reset()
		o := ask(t, h, "describe-key", h.URI("token=hsm;object="+k.Label), nil)
		if spec := o.text(t, "keySpec"); spec != a.Spec {
			t.Errorf("keySpec %s, want %s", spec, a.Spec)
		}
		var der []byte
		o.read(t, "publicKey", &der)
		if got, err := x509.ParsePKIXPublicKey(der); err != nil || !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(got) {
			t.Errorf("publicKey: %v", err)
		}
		wantChain(t, o, chain)
		wantURI := h.URI(fmt.Sprintf("serial=%s;id=%s", h.Token("hsm").Serial, "%0"+fmt.Sprint(k.ID[0])))
		if uri := o.text(t, "uri"); uri != wantURI {
			t.Errorf("uri %s, want %s", uri, wantURI)
		}
		if n := h.Calls("C_Login"); n != 0 {
			t.Errorf("describe-key logs in %d times", n)
		}
		signed := signs(t, h, o.text(t, "uri"), pub, "pin", pin)
		wantChain(t, signed, chain)
		name := "ECDSA-" + a.Hash.String()
		if a.PSS {
			name = "RSASSA-PSS-" + a.Hash.String()
		}
		if got := signed.text(t, "signingAlgorithm"); got != name {
			t.Errorf("signingAlgorithm %s, want %s", got, name)
		}
		if l, s, f := h.Calls("C_Login"), h.Calls("C_Sign"), h.Calls("C_Finalize"); l != 1 || s != 1 || f != 2 {
			t.Errorf("%d logins, %d signatures, %d ends of the module; want 1, 1, 2", l, s, f)
		}
	}
}

func wantChain(t testing.TB, o outcome, want [][]byte) {
	t.Helper()
	var got [][]byte
	o.read(t, "certificateChain", &got)
	if len(got) != len(want) {
		t.Fatalf("%d certificates, want %d", len(got), len(want))
	}
	for i := range want {
		if string(got[i]) != string(want[i]) {
			t.Errorf("certificate %d is another", i)
		}
	}
}

// A key is found by each attribute that tells it from others, and by any part of its pair.
func TestSelection(t *testing.T) {
	t.Parallel()
	ca := certtest.Root("root")
	keys := []crypto.Signer{certtest.Key("P-256"), certtest.Key("P-384"), certtest.Key("P-521")}
	h := pkcs11test.New(t,
		pkcs11test.Token{Label: "one", PIN: pin, Keys: []pkcs11test.Key{
			pkcs11test.Pair("release key", 0x0a, keys[0], ca.Leaf(keys[0].Public(), "a")), pkcs11test.Pair("b", 0xfe, keys[1])}},
		pkcs11test.Token{Label: "two", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("c", 1, keys[2])}})
	one, two := h.Token("one"), h.Token("two")
	for _, c := range []struct {
		attributes, spec string
	}{
		{"token=one;object=release%20key", "EC-256"},
		{"token=one;id=%0a", "EC-256"},
		{"token=one;id=%0A;object=release%20key", "EC-256"},
		{"token=one;object=release%20key;type=private", "EC-256"},
		{"token=one;id=%0a;type=public", "EC-256"},
		{"token=one;id=%0a;type=cert", "EC-256"},
		{"id=%FE", "EC-384"},
		{"object=b", "EC-384"},
		{"object=c", "EC-521"},
		{"token=two", "EC-521"},
		{"serial=" + two.Serial, "EC-521"},
		{fmt.Sprintf("slot-id=%d", two.Slot), "EC-521"},
		{fmt.Sprintf("slot-id=%d;id=%%fe", one.Slot), "EC-384"},
		{"manufacturer=SoftHSM%20project;model=SoftHSM%20v2;object=c", "EC-521"},
		{"library-manufacturer=SoftHSM;library-description=Implementation%20of%20PKCS11;object=c", "EC-521"},
		{"slot-manufacturer=SoftHSM%20project;object=c", "EC-521"},
	} {
		o := ask(t, h, "describe-key", h.URI(c.attributes), nil)
		if o.answer == nil || o.text(t, "keySpec") != c.spec {
			t.Errorf("%s: want %s\n%s%s", c.attributes, c.spec, o.stdout, o.stderr)
		}
	}
	for _, c := range []struct {
		attributes, code, class string
		says                    []string
	}{
		{"token=three;object=b", "VALIDATION_ERROR", "not-found", []string{`token "three"`, one.String(), two.String()}},
		{"serial=0;object=b", "VALIDATION_ERROR", "not-found", []string{`serial "0"`, "one"}},
		{"slot-id=7;object=b", "VALIDATION_ERROR", "not-found", []string{"slot-id 7"}},
		{"slot-id=x", "VALIDATION_ERROR", "uri", []string{"slot-id"}},
		{"token=one;type=cert;object=b", "ACCESS_DENIED", "credentials", nil},
		{"token=one;type=data", "VALIDATION_ERROR", "uri", []string{`"data"`}},
		{"library-manufacturer=Acme;object=b", "VALIDATION_ERROR", "not-found", []string{"SoftHSM"}},
		{"token=one", "VALIDATION_ERROR", "not-found", []string{"2 keys match", "object=release key;id=%0A", "object=b;id=%FE"}},
		{"manufacturer=SoftHSM%20project;object=zzz", "VALIDATION_ERROR", "not-found", []string{"2 tokens match", one.String(), two.String()}},
	} {
		ask(t, h, "describe-key", h.URI(c.attributes), nil).fails(t, c.code, c.class, c.says...)
	}
}

// One PIN is never tried on several tokens.
func TestSeveralTokensNoLogin(t *testing.T) {
	t.Parallel()
	h := pkcs11test.New(t, pkcs11test.Token{Label: "same", PIN: pin}, pkcs11test.Token{Label: "same", PIN: pin}).Around(t)
	ask(t, h, "describe-key", h.URI("token=same;object=o"), configured("pin", pin)).fails(t, "VALIDATION_ERROR", "not-found", "2 tokens match",
		h.Tokens[0].Serial, h.Tokens[1].Serial)
	if n := h.Calls("C_Login"); n != 0 {
		t.Errorf("%d logins", n)
	}
}

// The same key under the same name in two tokens is two keys.
func TestSameKeyInTwoTokens(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	token := func(label string) pkcs11test.Token {
		return pkcs11test.Token{Label: label, PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}}
	}
	h := pkcs11test.New(t, token("a"), token("b"))
	ask(t, h, "describe-key", h.URI("object=release"), nil).fails(t, "VALIDATION_ERROR", "not-found", "2 keys match", h.Token("a").Serial, h.Token("b").Serial)
	if o := ask(t, h, "describe-key", h.URI("object=release;token=b"), nil); o.text(t, "uri") != h.URI("serial="+h.Token("b").Serial+";id=%01") {
		t.Errorf("%s", o.stdout)
	}
}

// A signature for another kind of key, or with another hash, is not made.
func TestOtherSpecs(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key)}}).Around(t)
	for _, c := range [][2]string{{"EC-384", "SHA-256"}, {"EC-256", "SHA-384"}, {"RSA-2048", "SHA-256"}, {"", "SHA-256"}, {"EC-256", ""}} {
		request := signing(t, key.Public(), "chain", "optional", "pin", pin)
		request["keySpec"], request["hashAlgorithm"] = c[0], c[1]
		ask(t, h, "generate-signature", h.URI("object=release"), request).fails(t, "VALIDATION_ERROR", "", "the key is for EC-256 with SHA-256")
	}
	if l, s := h.Calls("C_Login"), h.Calls("C_Sign"); l+s != 0 {
		t.Errorf("%d logins and %d signatures", l, s)
	}
}

// Two private keys by the same name: neither signs.
func TestTwoPrivateKeys(t *testing.T) {
	t.Parallel()
	key, other := certtest.Key("P-256"), pkcs11test.Pair("release", 1, certtest.Key("P-256"))
	other.NoPublic = true
	h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("release", 1, key), other}}).Around(t)
	ask(t, h, "generate-signature", h.URI("object=release;id=%01;type=public"), signing(t, key.Public(), "chain", "optional", "pin", pin)).
		fails(t, "VALIDATION_ERROR", "not-found", "has 2 private keys")
	if n := h.Calls("C_Sign"); n != 0 {
		t.Errorf("%d signatures", n)
	}
}

// What is in the token besides a whole key pair with its certificates.
func TestParts(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	key, other := certtest.Key("P-256"), certtest.Key("RSA-2048")
	leaf := root.Leaf(key.Public(), "leaf")
	certificate := pkcs11test.Pair("certificate only shows it", 1, key, leaf)
	certificate.NoPublic = true
	hidden := pkcs11test.Pair("hidden", 2, other)
	hidden.NoPublic = true
	lost := pkcs11test.Pair("lost", 3, certtest.Key("P-384"))
	lost.NoPrivate = true
	dark := pkcs11test.Pair("dark", 4, certtest.Key("P-521"))
	dark.NoPublic = true
	idle := pkcs11test.Pair("may not sign", 5, certtest.Key("P-384"))
	idle.NoSign = true
	nameless := pkcs11test.Key{Label: "nameless", Signer: certtest.Key("RSA-3072")}
	h := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Certificates: []*x509.Certificate{root.Certificate},
		Keys: []pkcs11test.Key{certificate, hidden, lost, dark, idle, nameless}}).Around(t)

	o := ask(t, h, "describe-key", h.URI("id=%01"), nil)
	if spec := o.text(t, "keySpec"); spec != "EC-256" || h.Calls("C_Login") != 0 {
		t.Errorf("by the certificate: %s, %d logins", spec, h.Calls("C_Login"))
	}
	wantChain(t, signs(t, h, h.URI("id=%01"), key.Public(), "pin", pin), [][]byte{leaf.Raw, root.Certificate.Raw})

	// An RSA private key shows its public one, after the login that makes it visible.
	ask(t, h, "describe-key", h.URI("object=hidden"), nil).fails(t, "ACCESS_DENIED", "credentials", `object "hidden"`, "without its PIN")
	o = ask(t, h, "describe-key", h.URI("object=hidden"), configured("pin", pin))
	if spec := o.text(t, "keySpec"); spec != "RSA-2048" {
		t.Errorf("hidden: %s", spec)
	}
	signs(t, h, h.URI("object=hidden"), other.Public(), "pin", pin, "chain", "optional")

	// An ECDSA private key does not.
	ask(t, h, "describe-key", h.URI("object=dark"), configured("pin", pin)).fails(t, "ACCESS_DENIED", "unusable", "neither a public key nor a certificate")
	chain := filepath.Join(t.TempDir(), "chain.pem")
	darkLeaf := root.Leaf(dark.Signer.Public(), "dark")
	if err := os.WriteFile(chain, certtest.PEM(root.Certificate, darkLeaf), 0o600); err != nil {
		t.Fatal(err)
	}
	wantChain(t, signs(t, h, h.URI("object=dark"), dark.Signer.Public(), "pin", pin, "chain-file", chain), [][]byte{darkLeaf.Raw, root.Certificate.Raw})

	ask(t, h, "generate-signature", h.URI("object=lost"), signing(t, lost.Signer.Public(), "pin", pin, "chain", "optional")).
		fails(t, "VALIDATION_ERROR", "not-found", "no private key")
	ask(t, h, "generate-signature", h.URI("id=%05"), signing(t, idle.Signer.Public(), "pin", pin, "chain", "optional")).
		fails(t, "ACCESS_DENIED", "unusable", "CKR_KEY_FUNCTION_NOT_PERMITTED", "CKA_SIGN")
	ask(t, h, "describe-key", h.URI("object=absent"), configured("pin", pin)).
		fails(t, "VALIDATION_ERROR", "not-found", `object "absent"`, "object=hidden;id=%02", "object=nameless")

	if uri := signsURI(t, h, "object=nameless"); uri != h.URI("serial="+h.Token("hsm").Serial+";object=nameless") {
		t.Errorf("the key without an id is pinned as %s", uri)
	}
}

func signsURI(t testing.TB, h *pkcs11test.HSM, attributes string) string {
	t.Helper()
	o := ask(t, h, "describe-key", h.URI(attributes), nil)
	uri := o.text(t, "uri")
	if again := ask(t, h, "describe-key", uri, nil).text(t, "uri"); again != uri {
		t.Errorf("%s opens %s", uri, again)
	}
	return uri
}

// Some modules do not wrap the point of an ECDSA public key in an OCTET STRING as the standard says.
func TestBarePoint(t *testing.T) {
	t.Parallel()
	token := pkcs11test.Token{Label: "hsm", PIN: pin}
	for i, algorithm := range []string{"P-256", "P-384", "P-521"} {
		k := pkcs11test.Pair(algorithm, byte(i), certtest.Key(algorithm))
		k.BarePoint = true
		token.Keys = append(token.Keys, k)
	}
	// The first byte of X is the length that an OCTET STRING would have: one of 256 keys is so.
	for {
		k := pkcs11test.Pair("misleading", 9, certtest.Key("P-256"))
		point, err := k.Signer.Public().(*ecdsa.PublicKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if int(point[1]) == len(point)-2 {
			k.BarePoint = true
			token.Keys = append(token.Keys, k)
			break
		}
	}
	h := pkcs11test.New(t, token)
	for _, k := range token.Keys {
		signs(t, h, h.URI("object="+k.Label), k.Signer.Public(), "pin", pin, "chain", "optional")
	}
}

// A key without certificates signs only where that is asked for, and before anybody is asked for a PIN.
func TestNoCertificate(t *testing.T) {
	t.Parallel()
	root := certtest.Root("root")
	ca := root.Intermediate("CA")
	key := certtest.Key("P-256")
	leaf := ca.Leaf(key.Public(), "leaf")
	bare, partly := pkcs11test.Pair("bare", 1, key), pkcs11test.Pair("partly", 2, key, leaf)
	h := pkcs11test.New(t,
		pkcs11test.Token{Label: "bare", PIN: pin, Keys: []pkcs11test.Key{bare}},
		pkcs11test.Token{Label: "partly", PIN: pin, Keys: []pkcs11test.Key{partly}, Certificates: []*x509.Certificate{ca.Certificate}}).Around(t)

	wantChain(t, ask(t, h, "describe-key", h.URI("token=bare"), nil), nil)
	o := ask(t, h, "generate-signature", h.URI("token=bare"), signing(t, key.Public(), "pin", pin))
	o.fails(t, "VALIDATION_ERROR", "not-found", "has no certificate on the token")
	if !strings.Contains(o.failure.Metadata["remedy"], "chain-file") {
		t.Errorf("remedy: %q", o.failure.Metadata["remedy"])
	}
	ask(t, h, "generate-signature", h.URI("token=partly"), signing(t, key.Public(), "pin", pin)).fails(t, "VALIDATION_ERROR", "not-found", "no whole chain", "root")
	if n := h.Calls("C_Login"); n != 0 {
		t.Errorf("%d logins for nothing", n)
	}
	wantChain(t, signs(t, h, h.URI("token=bare"), key.Public(), "pin", pin, "chain", "optional"), nil)
	wantChain(t, signs(t, h, h.URI("token=partly"), key.Public(), "pin", pin, "chain", "optional"), [][]byte{leaf.Raw, ca.Certificate.Raw})

	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole := file("whole.pem", certtest.PEM(root.Certificate, leaf, ca.Certificate))
	for _, token := range []string{"token=bare", "token=partly"} {
		wantChain(t, signs(t, h, h.URI(token), key.Public(), "pin", pin, "chain-file", whole), [][]byte{leaf.Raw, ca.Certificate.Raw, root.Certificate.Raw})
	}
	for path, says := range map[string]string{
		"whole.pem":                           "not absolute",
		"/nowhere/chain.pem":                  "/nowhere/chain.pem",
		file("empty.pem", nil):                "nothing in it",
		file("key.pem", certtest.KeyPEM(key)): "private key",
		file("other.pem", certtest.PEM(ca.Chain(ca.Leaf(certtest.Key("P-384").Public(), "x"))...)): "is for the key that signs",
		file("part.pem", certtest.PEM(leaf, ca.Certificate)):                                       "root",
	} {
		ask(t, h, "generate-signature", h.URI("token=bare"), signing(t, key.Public(), "pin", pin, "chain", "optional", "chain-file", path)).
			fails(t, "VALIDATION_ERROR", "options", says)
	}
}

// Keys with which no Notary Project signature can be made are refused by describe-key, which names those with which one can.
func TestUnsupportedKeys(t *testing.T) {
	t.Parallel()
	small := smallRSA(t)
	key := certtest.Key("P-256")
	curve := func(name string, oid asn1.ObjectIdentifier) pkcs11test.Key {
		der, err := asn1.Marshal(oid)
		if err != nil {
			t.Fatal(err)
		}
		return pkcs11test.Key{Label: name, ID: []byte(name), Signer: key, Params: der}
	}
	keys := []pkcs11test.Key{
		pkcs11test.Pair("RSA key of 1024 bits", 1, small),
		curve("secp256k1", asn1.ObjectIdentifier{1, 3, 132, 0, 10}),
		curve("P-224", asn1.ObjectIdentifier{1, 3, 132, 0, 33}),
		curve("1.2.3.4", asn1.ObjectIdentifier{1, 2, 3, 4}),
		{Label: "no name", ID: []byte{9}, Signer: key, Params: []byte{0x30, 0}},
		{Label: "no uncompressed point on the curve P-384", ID: []byte{8}, Signer: key, Params: []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22}},
	}
	real := pkcs11test.New(t, pkcs11test.Token{Label: "hsm", PIN: pin, Keys: append(keys, pkcs11test.Pair("rsa", 7, certtest.Key("RSA-2048")))})
	for _, k := range keys {
		says := []string{k.Label, "P-256"}
		if strings.HasPrefix(k.Label, "no ") {
			says = says[:1]
		}
		ask(t, real, "describe-key", real.URI("object="+strings.ReplaceAll(k.Label, " ", "%20")), nil).fails(t, "VALIDATION_ERROR", "algorithm", says...)
	}
	h := real.Around(t, "nopss")
	ask(t, h, "describe-key", h.URI("object=rsa"), nil).fails(t, "VALIDATION_ERROR", "algorithm", "CKM_RSA_PKCS_PSS", "use ECDSA keys")
}

// PKCS #1 v1.5 is for certificate requests; the host asks for it expressly.
func TestPKCS1(t *testing.T) {
	t.Parallel()
	rsaKeys := []string{"RSA-2048", "RSA-3072", "RSA-4096"}
	token := pkcs11test.Token{Label: "hsm", PIN: pin, Keys: []pkcs11test.Key{pkcs11test.Pair("EC", 9, certtest.Key("P-256"))}}
	for i, name := range rsaKeys {
		token.Keys = append(token.Keys, pkcs11test.Pair(name, byte(i), certtest.Key(name)))
	}
	h := pkcs11test.New(t, token)
	for _, name := range rsaKeys {
		pub := certtest.Key(name).Public().(*rsa.PublicKey)
		a, err := kms.AlgorithmOf(pub)
		if err != nil {
			t.Fatal(err)
		}
		o := ask(t, h, "generate-signature", h.URI("object="+name), signing(t, pub, "pin", pin, "chain", "optional", "padding", "pkcs1"))
		var sig []byte
		o.read(t, "signature", &sig)
		digest := a.Hash.New()
		digest.Write(payload)
		if err := rsa.VerifyPKCS1v15(pub, a.Hash, digest.Sum(nil), sig); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, want := o.text(t, "signingAlgorithm"), "RSASSA-PKCS1-v1_5-"+a.Hash.String(); got != want {
			t.Errorf("signingAlgorithm %s, want %s", got, want)
		}
	}
	ask(t, h, "generate-signature", h.URI("object=EC"), signing(t, certtest.Key("P-256").Public(), "pin", pin, "chain", "optional", "padding", "pkcs1")).
		fails(t, "VALIDATION_ERROR", "", "for RSA keys")
}
