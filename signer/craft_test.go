package signer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms/kmstest"
	"github.com/imprint-oci/imprint/registry"
)

// What this file makes shares no code with the envelope room, so that it can make what that room never would.

var someSubject = registry.NewManifest(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`)).Descriptor

// signature makes a signature of someSubject as a registry would give it back.
func signature(t testing.TB, id identity, format envelope.Format, at time.Time, annotations map[string]string) registry.Signature {
	t.Helper()
	e, err := envelope.Sign(t.Context(), format, envelope.Payload{MediaType: someSubject.MediaType, Digest: someSubject.Digest, Size: someSubject.Size},
		kmstest.Key(id.key), id.chain, envelope.Options{SigningTime: at, Agent: "imprint/test"})
	must(t, err)
	return enveloped(e.Bytes(), format, annotations)
}

func enveloped(b []byte, format envelope.Format, annotations map[string]string) registry.Signature {
	m := registry.ByArtifactType.Manifest(someSubject, string(format), b, annotations)
	return registry.Signature{Subject: someSubject, Descriptor: m.Descriptor, Manifest: m, Annotations: annotations, MediaType: string(format), Envelope: b}
}

// editHeader changes the unsigned header of a JWS signature.
func editHeader(t testing.TB, sig registry.Signature, edit func(header map[string]json.RawMessage)) registry.Signature {
	t.Helper()
	var whole, header map[string]json.RawMessage
	must(t, json.Unmarshal(sig.Envelope, &whole))
	must(t, json.Unmarshal(whole["header"], &header))
	edit(header)
	whole["header"] = encodeJSON(t, header)
	return enveloped(encodeJSON(t, whole), envelope.JWS, sig.Annotations)
}

// encodeJSON encodes v without touching what is encoded already.
func encodeJSON(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	must(t, e.Encode(v))
	return bytes.TrimSpace(b.Bytes())
}

// jws signs any protected header and payload of id's P-256 key.
func jws(t testing.TB, id identity, protected string) registry.Signature {
	t.Helper()
	payload, err := json.Marshal(map[string]any{"targetArtifact": map[string]any{
		"mediaType": someSubject.MediaType, "digest": someSubject.Digest, "size": someSubject.Size}})
	must(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	message := encode([]byte(protected)) + "." + encode(payload)
	var x5c [][]byte
	for _, c := range id.chain {
		x5c = append(x5c, c.Raw)
	}
	b, err := json.Marshal(map[string]any{
		"payload": encode(payload), "protected": encode([]byte(protected)), "header": map[string]any{"x5c": x5c}, "signature": encode(rawSignature(t, id, []byte(message))),
	})
	must(t, err)
	return enveloped(b, envelope.JWS, nil)
}

func rawSignature(t testing.TB, id identity, message []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, id.key.(*ecdsa.PrivateKey), hash[:])
	must(t, err)
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// authentic makes a signature of the scheme notary.x509.signingAuthority.
func authentic(t testing.TB, id identity, at time.Time) registry.Signature {
	t.Helper()
	return jws(t, id, `{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme","io.cncf.notary.authenticSigningTime"],`+
		`"io.cncf.notary.signingScheme":"notary.x509.signingAuthority","io.cncf.notary.authenticSigningTime":"`+at.UTC().Format(time.RFC3339)+`"}`)
}

// coseWith adds an entry to the header of a COSE signature: to the unprotected one as it stands, to the protected one
// with a new signature.
func coseWith(t testing.TB, id identity, sig registry.Signature, protect bool, label, value any) registry.Signature {
	t.Helper()
	var tag cbor.RawTag
	must(t, cbor.Unmarshal(sig.Envelope, &tag))
	var parts []cbor.RawMessage
	must(t, cbor.Unmarshal(tag.Content, &parts))
	entry := append(encodeCBOR(t, label), encodeCBOR(t, value)...)
	grow := func(m []byte) []byte {
		if m[0] < 0xa1 || m[0] >= 0xb7 {
			t.Fatalf("a map of %x entries", m[0])
		}
		return append(append([]byte{m[0] + 1}, m[1:]...), entry...)
	}
	if protect {
		var protected []byte
		must(t, cbor.Unmarshal(parts[0], &protected))
		protected = grow(protected)
		parts[0] = encodeCBOR(t, protected)
		var payload []byte
		must(t, cbor.Unmarshal(parts[2], &payload))
		parts[3] = encodeCBOR(t, rawSignature(t, id, encodeCBOR(t, []any{"Signature1", protected, []byte{}, payload})))
	} else {
		parts[1] = grow(parts[1])
	}
	return enveloped(encodeCBOR(t, cbor.Tag{Number: 18, Content: parts}), envelope.COSE, sig.Annotations)
}

func encodeCBOR(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	must(t, err)
	return b
}

// stamped adds an RFC 3161 token that states at to a JWS signature. The token itself is signed by nobody: whether it
// is worth anything is judged elsewhere.
func stamped(t testing.TB, sig registry.Signature, at time.Time) registry.Signature {
	t.Helper()
	var whole struct{ Signature string }
	must(t, json.Unmarshal(sig.Envelope, &whole))
	primitive, err := base64.RawURLEncoding.DecodeString(whole.Signature)
	must(t, err)
	return editHeader(t, sig, func(h map[string]json.RawMessage) {
		h["io.cncf.notary.timestampSignature"], err = json.Marshal(token(t, primitive, at))
		must(t, err)
	})
}

func token(t testing.TB, message []byte, at time.Time) []byte {
	t.Helper()
	hash := sha256.Sum256(message)
	encode := func(v any, params string) []byte {
		b, err := asn1.MarshalWithParams(v, params)
		must(t, err)
		return b
	}
	info := encode(struct {
		Version int
		Policy  asn1.ObjectIdentifier
		Imprint struct {
			Algorithm pkix.AlgorithmIdentifier
			Hash      []byte
		}
		Serial   *big.Int
		Time     time.Time `asn1:"generalized"`
		Accuracy struct {
			Seconds int `asn1:"optional"`
		}
	}{
		Version: 1, Policy: asn1.ObjectIdentifier{1, 2, 3},
		Imprint: struct {
			Algorithm pkix.AlgorithmIdentifier
			Hash      []byte
		}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}, hash[:]},
		Serial: big.NewInt(1), Time: at.UTC().Truncate(time.Second), Accuracy: struct {
			Seconds int `asn1:"optional"`
		}{1},
	}, "")
	type content struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	explicit := func(b []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: b}
	}
	data := encode(struct {
		Version    int
		Algorithms []pkix.AlgorithmIdentifier `asn1:"set"`
		Content    content
		Signers    []pkix.AlgorithmIdentifier `asn1:"set"`
	}{3, nil, content{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}, explicit(encode(info, ""))}, nil}, "")
	return encode(content{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, explicit(data)}, "")
}

// otherKey returns another public key under which a P-256 JWS signature verifies all the same: ECDSA lets anybody
// compute it from message and signature (K25).
func otherKey(t testing.TB, sig registry.Signature, own *ecdsa.PublicKey) *ecdsa.PublicKey {
	t.Helper()
	var whole struct{ Payload, Protected, Signature string }
	must(t, json.Unmarshal(sig.Envelope, &whole))
	primitive, err := base64.RawURLEncoding.DecodeString(whole.Signature)
	must(t, err)
	message := []byte(whole.Protected + "." + whole.Payload)
	hash := sha256.Sum256(message)
	curve := elliptic.P256()
	p, n := curve.Params().P, curve.Params().N
	r, s, z := new(big.Int).SetBytes(primitive[:32]), new(big.Int).SetBytes(primitive[32:]), new(big.Int).SetBytes(hash[:])
	// R is (r, ±y) with y² = x³ - 3x + b; for each of the two, Q = (sR - zG)/r.
	y := new(big.Int).Exp(r, big.NewInt(3), p)
	y.Sub(y, new(big.Int).Mul(big.NewInt(3), r)).Add(y, curve.Params().B).Mod(y, p)
	y.ModSqrt(y, p)
	inverse := new(big.Int).ModInverse(r, n)
	for range 2 {
		//nolint:staticcheck // the arithmetic of points is what this attack is made of
		sx, sy := curve.ScalarMult(r, y, s.Bytes())
		//nolint:staticcheck
		zx, zy := curve.ScalarBaseMult(z.Bytes())
		//nolint:staticcheck
		x, yy := curve.Add(sx, sy, zx, new(big.Int).Sub(p, zy))
		//nolint:staticcheck
		qx, qy := curve.ScalarMult(x, yy, inverse.Bytes())
		q, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, qx.FillBytes(make([]byte, 32))...), qy.FillBytes(make([]byte, 32))...))
		must(t, err)
		if !q.Equal(own) {
			if !ecdsa.Verify(q, hash[:], r, s) {
				t.Fatal("the crafted key does not verify the signature: the test is wrong")
			}
			return q
		}
		y.Sub(p, y)
	}
	t.Fatal("no other key")
	return nil
}

func content(t testing.TB, sig registry.Signature) envelope.Content {
	t.Helper()
	must(t, sig.Err)
	e, err := envelope.Parse(sig.MediaType, sig.Envelope)
	must(t, err)
	c, err := e.Verify()
	must(t, err)
	return c
}
