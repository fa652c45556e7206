package pkcs11test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"testing"
)

// The constants of PKCS #11 for the objects that are made.
const (
	class              = 0x000
	onToken            = 0x001
	private            = 0x002
	label              = 0x003
	value              = 0x011
	certificateType    = 0x080
	issuer             = 0x081
	keyType            = 0x100
	subject            = 0x101
	id                 = 0x102
	sensitive          = 0x103
	sign               = 0x108
	verify             = 0x10A
	modulus            = 0x120
	publicExponent     = 0x122
	privateExponent    = 0x123
	prime1             = 0x124
	prime2             = 0x125
	exponent1          = 0x126
	exponent2          = 0x127
	coefficient        = 0x128
	ecParams           = 0x180
	ecPoint            = 0x181
	alwaysAuthenticate = 0x202

	classCertificate = 1
	classPublic      = 2
	classPrivate     = 3
	typeRSA          = 0
	typeEC           = 3
)

func number(typ, n uint) Attribute {
	return Attribute{typ, binary.NativeEndian.AppendUint64(nil, uint64(n))}
}

func boolean(typ uint, b bool) Attribute {
	if b {
		return Attribute{typ, []byte{1}}
	}
	return Attribute{typ, []byte{0}}
}

func (token Token) order(t testing.TB) TokenOrder {
	o := TokenOrder{Label: token.Label, PIN: token.PIN}
	for _, k := range token.Keys {
		typ, public, secret := k.parts(t)
		name := []Attribute{boolean(onToken, true), {label, []byte(k.Label)}, {id, k.ID}}
		if !k.NoPrivate {
			o.Objects = append(o.Objects, join(name, []Attribute{
				number(class, classPrivate), number(keyType, typ), boolean(private, true), boolean(sensitive, true),
				boolean(sign, !k.NoSign), boolean(alwaysAuthenticate, k.Always),
			}, secret))
		}
		if !k.NoPublic {
			o.Objects = append(o.Objects, join(name, []Attribute{
				number(class, classPublic), number(keyType, typ), boolean(private, false), boolean(verify, true),
			}, public))
		}
		for _, c := range k.Certificates {
			o.Objects = append(o.Objects, join(name, certificate(c)))
		}
	}
	for _, c := range token.Certificates {
		o.Objects = append(o.Objects, join([]Attribute{boolean(onToken, true), {label, []byte(c.Subject.CommonName)}}, certificate(c)))
	}
	return o
}

func join(parts ...[]Attribute) []Attribute {
	var all []Attribute
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func certificate(c *x509.Certificate) []Attribute {
	return []Attribute{
		number(class, classCertificate), number(certificateType, 0), boolean(private, false),
		{subject, c.RawSubject}, {issuer, c.RawIssuer}, {value, c.Raw},
	}
}

// parts returns the attributes in which a key's numbers are.
func (k Key) parts(t testing.TB) (typ uint, public, secret []Attribute) {
	t.Helper()
	switch key := k.Signer.(type) {
	case *rsa.PrivateKey:
		n, e := Attribute{modulus, key.N.Bytes()}, Attribute{publicExponent, big.NewInt(int64(key.E)).Bytes()}
		return typeRSA, []Attribute{n, e}, []Attribute{n, e,
			{privateExponent, key.D.Bytes()}, {prime1, key.Primes[0].Bytes()}, {prime2, key.Primes[1].Bytes()},
			{exponent1, key.Precomputed.Dp.Bytes()}, {exponent2, key.Precomputed.Dq.Bytes()}, {coefficient, key.Precomputed.Qinv.Bytes()}}
	case *ecdsa.PrivateKey:
		params := Attribute{ecParams, k.Params}
		if k.Params == nil {
			params.Value = curve(t, key.Curve.Params().Name)
		}
		raw, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := asn1.Marshal(point)
		if err != nil {
			t.Fatal(err)
		}
		if k.BarePoint {
			wrapped = point
		}
		return typeEC, []Attribute{params, {ecPoint, wrapped}}, []Attribute{params, {value, raw}}
	}
	t.Fatalf("a key of type %T", k.Signer)
	return 0, nil, nil
}

// curve returns the DER of a curve's object identifier.
func curve(t testing.TB, name string) []byte {
	t.Helper()
	oid, ok := map[string]asn1.ObjectIdentifier{
		"P-256": {1, 2, 840, 10045, 3, 1, 7}, "P-384": {1, 3, 132, 0, 34}, "P-521": {1, 3, 132, 0, 35},
	}[name]
	if !ok {
		t.Fatalf("the curve %s", name)
	}
	der, err := asn1.Marshal(oid)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Pair returns a key pair whose label is name and whose id is one byte.
func Pair(name string, number byte, signer crypto.Signer, certificates ...*x509.Certificate) Key {
	return Key{Label: name, ID: []byte{number}, Signer: signer, Certificates: certificates}
}

func (m Made) String() string { return fmt.Sprintf("%s (serial %s)", m.Label, m.Serial) }
