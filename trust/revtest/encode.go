package revtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// The wire forms of RFC 5280, 5.1, and RFC 6960, 4.2.1.
type (
	revocationList struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	tbsList struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		ThisUpdate time.Time
		NextUpdate time.Time                 `asn1:"optional"`
		Revoked    []pkix.RevokedCertificate `asn1:"optional"`
		Extensions []pkix.Extension          `asn1:"explicit,tag:0,optional"`
	}
	certID struct {
		Hash                  pkix.AlgorithmIdentifier
		IssuerName, IssuerKey []byte
		Serial                *big.Int
	}
	request struct {
		TBS struct {
			List       []struct{ ID certID }
			Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
		}
	}
	response struct {
		Status asn1.Enumerated
		Bytes  responseBytes `asn1:"explicit,tag:0,optional"`
	}
	responseBytes struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	}
	basicResponse struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	responseData struct {
		KeyHash    []byte    `asn1:"explicit,tag:2"`
		Produced   time.Time `asn1:"generalized"`
		Responses  []asn1.RawValue
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
)

var (
	oidNumber    = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReason    = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalid   = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDelta     = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidPoint     = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidFreshest  = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidAuthority = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidNonce     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidBasic     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNobody    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("revtest: %v", err))
	}
	return v
}

func encode(v any) []byte { return must(asn1.Marshal(v)) }

// element is DER of a tag of one byte.
func element(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	b := encode(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: content})
	return b
}

func algorithmOf(key crypto.Signer, weak bool) (pkix.AlgorithmIdentifier, crypto.Hash) {
	switch key.Public().(type) {
	case *rsa.PublicKey:
		if weak {
			return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, Parameters: asn1.NullRawValue}, crypto.SHA1
		}
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue}, crypto.SHA256
	case *ecdsa.PublicKey:
		if weak {
			return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}}, crypto.SHA1
		}
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, crypto.SHA256
	}
	panic("revtest: a key of another kind")
}

func sign(key crypto.Signer, hash crypto.Hash, b []byte) asn1.BitString {
	h := hash.New()
	h.Write(b)
	s := must(key.Sign(rand.Reader, h.Sum(nil), hash))
	return asn1.BitString{Bytes: s, BitLength: 8 * len(s)}
}

func extension(id asn1.ObjectIdentifier, critical bool, value []byte) pkix.Extension {
	return pkix.Extension{Id: id, Critical: critical, Value: value}
}

// points is a CRLDistributionPoints of one URI.
func points(uri string) []byte {
	return element(0x30, element(0x30, element(0xa0, element(0xa0, element(0x86, []byte(uri))))))
}

func (c *CA) deltaList() []byte {
	now := c.now()
	return c.encodeList(Works, tbsList{
		ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(c.valid), Revoked: entries(c.deltas),
		Extensions: []pkix.Extension{
			extension(oidNumber, false, encode(big.NewInt(c.number+1))),
			extension(oidDelta, true, encode(big.NewInt(c.number))),
		},
	})
}

func (c *CA) list(lie Lie) []byte {
	now := c.now()
	t := tbsList{ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(c.valid), Revoked: entries(c.revoked)}
	add := func(e pkix.Extension) { t.Extensions = append(t.Extensions, e) }
	point := func(parts ...[]byte) { add(extension(oidPoint, true, element(0x30, parts...))) }
	named := func(uri string) []byte { return element(0xa0, element(0xa0, element(0x86, []byte(uri)))) }
	yes := []byte{0xff}
	add(extension(oidAuthority, false, element(0x30, element(0x80, c.Certificate.SubjectKeyId))))
	add(extension(oidNumber, false, encode(big.NewInt(c.number))))
	switch lie {
	case Stale:
		t.ThisUpdate, t.NextUpdate = now.Add(-25*time.Hour), now.Add(-time.Hour)
	case Future:
		t.ThisUpdate, t.NextUpdate = now.Add(24*time.Hour), now.Add(48*time.Hour)
	case NoNextUpdate:
		t.NextUpdate = time.Time{}
	case UnknownExt:
		add(extension(oidNobody, true, []byte{5, 0}))
	case DoubleExt:
		add(extension(oidNumber, false, encode(big.NewInt(c.number))))
	case Delta:
		add(extension(oidDelta, true, encode(big.NewInt(c.number-1))))
	case NamesDelta, NamesDeltaLost:
		add(extension(oidFreshest, false, points(c.server.URL+"/delta.crl")))
	case NamesItself:
		add(extension(oidFreshest, false, points(c.ListURL())))
	case Indirect:
		point(element(0x84, yes))
	case UsersOnly:
		point(element(0x81, yes))
	case AuthoritiesOnly:
		point(element(0x82, yes))
	case AttributesOnly:
		point(element(0x85, yes))
	case OtherPoint:
		point(named(c.server.URL + "/other.crl"))
	case OwnPoint:
		point(named(c.ListURL()))
	case SomeReasons:
		point(element(0x83, []byte{6, 0x40})) // keyCompromise
	case UnknownEntryExt:
		t.Revoked = append(t.Revoked, pkix.RevokedCertificate{SerialNumber: big.NewInt(1 << 40), RevocationTime: now.UTC(),
			Extensions: []pkix.Extension{extension(oidNobody, true, []byte{5, 0})}})
	}
	b := c.encodeList(lie, t)
	switch lie {
	case Trailing:
		return append(b, 0, 0)
	case InPEM:
		return PEM(b)
	case Garbage:
		return []byte("no list")
	case Empty:
		return nil
	}
	return b
}

func (c *CA) encodeList(lie Lie, t tbsList) []byte {
	key, issuer := c.Key, c.Certificate.RawSubject
	switch lie {
	case Forged:
		key = certtest.Key("P-256")
	case OtherIssuer:
		other := certtest.Root("another authority")
		key, issuer = other.Key, other.Certificate.RawSubject
	}
	alg, hash := algorithmOf(key, lie == SHA1)
	t.Version, t.Algorithm, t.Issuer = 1, alg, asn1.RawValue{FullBytes: issuer}
	t.ThisUpdate, t.NextUpdate = t.ThisUpdate.UTC().Truncate(time.Second), t.NextUpdate.UTC().Truncate(time.Second)
	tbs := encode(t)
	return encode(revocationList{asn1.RawValue{FullBytes: tbs}, alg, sign(key, hash, tbs)})
}

func entries(all []revoked) []pkix.RevokedCertificate {
	var out []pkix.RevokedCertificate
	for _, r := range all {
		e := pkix.RevokedCertificate{SerialNumber: r.serial, RevocationTime: r.At.UTC().Truncate(time.Second)}
		if r.Reason != 0 {
			e.Extensions = append(e.Extensions, extension(oidReason, false, encode(asn1.Enumerated(r.Reason))))
		}
		if !r.Invalid.IsZero() {
			e.Extensions = append(e.Extensions, extension(oidInvalid, false, generalized(r.Invalid)))
		}
		out = append(out, e)
	}
	return out
}

func generalized(t time.Time) []byte {
	return must(asn1.MarshalWithParams(t.UTC().Truncate(time.Second), "generalized"))
}

// answer is the responder's.
func (c *CA) answer(lie Lie, body []byte) []byte {
	switch lie {
	case TryLater:
		return ocsp.TryLaterErrorResponse
	case Unauthorized:
		return ocsp.UnauthorizedErrorResponse
	case Garbage:
		return []byte("no answer")
	case Empty:
		return nil
	}
	var asked request
	if rest, err := asn1.Unmarshal(body, &asked); err != nil || len(rest) > 0 || len(asked.TBS.List) != 1 {
		return ocsp.MalformedRequestErrorResponse
	}
	id, now := asked.TBS.List[0].ID, c.now()
	from, until := now.Add(-time.Minute), now.Add(c.valid)
	switch lie {
	case Stale:
		from, until = now.Add(-25*time.Hour), now.Add(-time.Hour)
	case Future:
		from, until = now.Add(24*time.Hour), now.Add(48*time.Hour)
	case OtherName:
		id.IssuerName = slices.Clone(id.IssuerName)
		id.IssuerName[0] ^= 1
	case OtherKey:
		id.IssuerKey = slices.Clone(id.IssuerKey)
		id.IssuerKey[0] ^= 1
	}
	status := element(0x80) // good
	var extensions []byte
	for _, r := range c.revoked {
		if r.serial.Cmp(id.Serial) != 0 {
			continue
		}
		parts := [][]byte{generalized(r.At)}
		if r.Reason != 0 {
			parts = append(parts, element(0xa0, encode(asn1.Enumerated(r.Reason))))
		}
		status = element(0xa1, parts...)
		if !r.Invalid.IsZero() {
			extensions = element(0xa1, encode([]pkix.Extension{extension(oidInvalid, false, generalized(r.Invalid))}))
		}
	}
	if lie == UnknownStatus {
		status = element(0x82)
	}
	if lie == OtherSerial {
		id.Serial = new(big.Int).Add(id.Serial, big.NewInt(1))
	}
	next := element(0xa0, generalized(until))
	if lie == NoNextUpdate {
		next = nil
	}
	data := responseData{
		KeyHash: id.IssuerKey, Produced: now.UTC().Truncate(time.Second),
		Responses: []asn1.RawValue{{FullBytes: element(0x30, encode(id), status, generalized(from), next, extensions)}},
	}
	for _, e := range asked.TBS.Extensions {
		if !e.Id.Equal(oidNonce) || lie == NoNonce {
			continue
		}
		value := slices.Clone(e.Value)
		switch lie {
		case WrongNonce:
			value[len(value)-1] ^= 1
		case BareNonce:
			value = value[2:]
		}
		data.Extensions = append(data.Extensions, extension(oidNonce, false, value))
	}
	if lie == UnknownExt {
		data.Extensions = append(data.Extensions, extension(oidNobody, true, []byte{5, 0}))
	}
	signer, certificates := c.signer(lie, now)
	alg, hash := algorithmOf(signer, lie == SHA1)
	tbs := encode(data)
	return encode(response{Bytes: responseBytes{oidBasic, encode(basicResponse{asn1.RawValue{FullBytes: tbs}, alg, sign(signer, hash, tbs), certificates})}})
}

// signer is who signs an answer, with the certificate that goes along.
func (c *CA) signer(lie Lie, now time.Time) (crypto.Signer, []asn1.RawValue) {
	responder := func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }
	by, edits := c.Authority, []certtest.Edit{responder}
	switch lie {
	case Forged:
		return certtest.Key("P-256"), nil
	case Unauthorised:
		edits = nil
	case Delegated, DelegateWeak:
	case DelegateNoSign:
		edits = append(edits, func(t *x509.Certificate) { t.KeyUsage = x509.KeyUsageKeyEncipherment })
	case DelegateExpired:
		edits = append(edits, certtest.Valid(now.Add(-48*time.Hour), now.Add(-time.Hour)))
	case DelegateForeign:
		by = certtest.Root("another authority")
	case DelegateForged:
		by = certtest.Root("of the same name", certtest.Subject(c.Certificate.Subject))
	default:
		return c.Key, nil
	}
	key := certtest.Key("P-256")
	if lie == DelegateWeak {
		key = certtest.Key("P-224")
	}
	return key, []asn1.RawValue{{FullBytes: by.Leaf(key.Public(), "responder", edits...).Raw}}
}
