package vaulttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

// A transitKey is a key of an engine; nil is one that is not there.
type transitKey struct {
	name, kind         string
	versions           []*version
	minimum, available int // min_encryption_version, min_available_version
	deleted            bool
}

type version struct {
	signer crypto.Signer // nil of a symmetric key
	chain  any           // of PEM
	public string        // instead of the signer's
}

func loopback() []net.IP { return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} }

// kindOf returns a key's type, and rsa-BITS or ecdsa-CURVE for those that the engine does not have.
func kindOf(signer crypto.Signer) string {
	switch pub := signer.Public().(type) {
	case *rsa.PublicKey:
		return "rsa-" + strconv.Itoa(pub.N.BitLen())
	case *ecdsa.PublicKey:
		return "ecdsa-" + strings.ToLower(strings.ReplaceAll(pub.Curve.Params().Name, "-", ""))
	}
	return "ed25519"
}

func (k *transitKey) signs() bool {
	return strings.HasPrefix(k.kind, "rsa-") || strings.HasPrefix(k.kind, "ecdsa-") || k.kind == "ed25519" || k.kind == "managed_key"
}

func (k *transitKey) read() answer {
	if k == nil {
		return refuse(http.StatusNotFound)
	}
	keys := map[string]any{}
	for i, v := range k.versions {
		n := strconv.Itoa(i + 1)
		switch {
		case i+1 < k.available:
		case v.signer == nil && k.kind == "ed25519":
			keys[n] = map[string]any{"name": "ed25519", "public_key": "3q2+7w==", "certificate_chain": "", "creation_time": time.Now()}
		case v.signer == nil:
			keys[n] = time.Now().Unix()
		default:
			public := v.public
			if public == "" {
				der, err := x509.MarshalPKIXPublicKey(v.signer.Public())
				if err != nil {
					return refuse(http.StatusInternalServerError, multi(err.Error()))
				}
				public = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			}
			chain := v.chain
			if chain == nil {
				chain = ""
			}
			keys[n] = map[string]any{"name": k.kind, "public_key": public, "certificate_chain": chain, "creation_time": time.Now()}
		}
	}
	return answer{status: http.StatusOK, data: map[string]any{
		"name": k.name, "type": k.kind, "derived": false, "deletion_allowed": false, "exportable": false, "allow_plaintext_backup": false,
		"min_available_version": k.available, "min_decryption_version": 1, "min_encryption_version": k.minimum, "latest_version": len(k.versions),
		"supports_signing": k.signs(), "supports_encryption": !k.signs(), "supports_decryption": !k.signs(), "supports_derivation": false,
		"auto_rotate_period": 0, "imported_key": false, "soft_deleted": k.deleted, "keys": keys,
	}}
}

// A signInput is the body of sign; a missing salt_length is auto, which is as long as fits, and a missing signature_algorithm pss.
type signInput struct {
	Input      string      `json:"input"`
	Prehashed  bool        `json:"prehashed"`
	Hash       string      `json:"hash_algorithm"`
	Version    json.Number `json:"key_version"`
	Marshaling string      `json:"marshaling_algorithm"`
	Padding    string      `json:"signature_algorithm"`
	Salt       string      `json:"salt_length"`
}

func (k *transitKey) sign(body []byte, effect Effect) answer {
	var in signInput
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
	}
	if k == nil {
		return refuse(http.StatusBadRequest, "signing key not found")
	}
	hash, ok := map[string]crypto.Hash{"": crypto.SHA256, "sha2-256": crypto.SHA256, "sha2-384": crypto.SHA384, "sha2-512": crypto.SHA512}[in.Hash]
	if !ok {
		return refuse(http.StatusBadRequest, fmt.Sprintf("invalid hash algorithm %q", in.Hash))
	}
	input, err := base64.StdEncoding.DecodeString(in.Input)
	if err != nil {
		return refuse(http.StatusBadRequest, "unable to decode input as base64: "+err.Error())
	}
	n := len(k.versions)
	if in.Version != "" && in.Version != "0" {
		if n, err = strconv.Atoi(in.Version.String()); err != nil {
			return refuse(http.StatusBadRequest, "error converting input for field \"key_version\"")
		}
	}
	switch {
	case k.deleted:
		return refuse(http.StatusInternalServerError, multi("transit key has been soft deleted"))
	case !k.signs():
		return refuse(http.StatusBadRequest, fmt.Sprintf("key type %s does not support signing", k.kind))
	case n > len(k.versions):
		return refuse(http.StatusInternalServerError, multi("requested version for signing is higher than the latest key version"))
	case k.minimum > 0 && n < k.minimum:
		return refuse(http.StatusInternalServerError, multi("requested version for signing is less than the minimum encryption key version"))
	}
	digest := input
	if !in.Prehashed {
		h := hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	return k.signDigest(n, hash, digest, in, effect)
}

func (k *transitKey) signDigest(n int, hash crypto.Hash, digest []byte, in signInput, effect Effect) answer {
	signer := k.versions[n-1].signer
	switch effect {
	case Latest: // as a service that does not heed key_version
		n = len(k.versions)
		signer = k.versions[n-1].signer
	case OtherKey:
		signer = certtest.Key(algorithmOf(signer))
		if _, rsaKey := signer.(*rsa.PrivateKey); rsaKey {
			signer = k.versions[len(k.versions)-1].signer
		}
	case Truncated:
		digest = append(digest[:len(digest)/2:len(digest)/2], make([]byte, len(digest)-len(digest)/2)...)
	}
	sig, err := signWith(signer, hash, digest, in, effect)
	if err != nil {
		// A digest of another length than the hash's, for an RSA key. EC keys sign anything.
		return refuse(http.StatusInternalServerError, multi(err.Error()))
	}
	text := base64.StdEncoding.EncodeToString(sig)
	if in.Marshaling == "jws" {
		text = base64.RawURLEncoding.EncodeToString(sig)
	}
	text = fmt.Sprintf("vault:v%d:%s", n, text)
	if effect == Garbled {
		text = "vault:v" + strconv.Itoa(n) + ":" + text
	}
	return answer{status: http.StatusOK, data: map[string]any{"signature": text, "key_version": n}}
}

func algorithmOf(signer crypto.Signer) string {
	switch pub := signer.Public().(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return pub.Curve.Params().Name
	}
	return ""
}

func signWith(signer crypto.Signer, hash crypto.Hash, digest []byte, in signInput, effect Effect) ([]byte, error) {
	switch key := signer.(type) {
	case *rsa.PrivateKey:
		if in.Padding == "pkcs1v15" && effect != PKCS1 || effect == PKCS1 {
			return rsa.SignPKCS1v15(rand.Reader, key, hash, digest)
		}
		salt := rsa.PSSSaltLengthAuto
		switch {
		case effect == LongSalt || in.Salt == "" || in.Salt == "auto":
		case in.Salt == "hash":
			salt = rsa.PSSSaltLengthEqualsHash
		default:
			var err error
			if salt, err = strconv.Atoi(in.Salt); err != nil {
				return nil, fmt.Errorf("salt length %q", in.Salt)
			}
		}
		return rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: salt, Hash: hash})
	case *ecdsa.PrivateKey:
		if in.Marshaling != "jws" {
			return ecdsa.SignASN1(rand.Reader, key, digest)
		}
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, err
		}
		width := (key.Curve.Params().BitSize + 7) / 8
		pair := [2]*big.Int{r, s}
		out := make([]byte, 0, 2*width)
		for _, n := range pair {
			out = append(out, n.FillBytes(make([]byte, width))...)
		}
		return out, nil
	}
	return nil, fmt.Errorf("key of type %T", signer)
}
