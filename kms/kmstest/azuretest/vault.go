package azuretest

import (
	"bytes"
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
	"net/http"
	"slices"
	"strings"
	"time"
)

// Vault is every vault and Managed HSM, told apart by the host that they are asked under.
func (s *Server) Vault() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /keys/{name}/{version}", s.operation(KeysGet, s.getKey))
	m.HandleFunc("GET /keys/{name}/{$}", s.operation(KeysGet, s.getKey))
	m.HandleFunc("POST /keys/{name}/{version}/sign", s.operation(KeysSign, s.sign))
	m.HandleFunc("GET /certificates/{name}/{version}", s.operation(CertificateGet, s.getCertificate))
	m.HandleFunc("GET /secrets/{name}/{version}", s.operation(SecretGet, s.getSecret))
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		apologise(w, apology{http.StatusNotFound, "NotFound", "The request URI does not match any known route: " + r.URL.Path, ""})
	})
	return m
}

// resourceOf is the resource that tokens for a host are for: its domain.
func resourceOf(host string) string {
	_, domain, _ := strings.Cut(host, ".")
	return "https://" + domain
}

func authorityOf(host string) string {
	for _, c := range clouds {
		if strings.HasSuffix(host, c.vault) || strings.HasSuffix(host, c.hsm) {
			return "https://" + c.login
		}
	}
	return ""
}

func isHSM(host string) bool { return strings.Contains(host, ".managedhsm.") }

// operation authenticates a request, counts it, and has the common faults happen.
func (s *Server) operation(op string, do func(w http.ResponseWriter, r *http.Request, f Fault)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.agents[r.UserAgent()] = true
		s.mu.Unlock()
		if !s.authenticated(w, r) {
			return
		}
		if r.URL.Query().Get("api-version") == "" {
			apologise(w, apology{http.StatusBadRequest, "BadParameter", "api-version must be specified", ""})
			return
		}
		f := s.count(op)
		if a, ok := apologies[f]; ok {
			if strings.Contains(a.text, "%s") {
				a.text = fmt.Sprintf(a.text, strings.ReplaceAll(op, "/", " "))
			}
			if s.RetryAfter != "" && f == Throttled {
				w.Header().Set("Retry-After", s.RetryAfter)
			}
			apologise(w, a)
			return
		}
		switch f {
		case Silent:
			s.hold(r)
		case TokenExpired:
			s.expire()
			s.challenge(w, r, expired)
		case Revoked:
			s.expire()
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="", authorization_uri="%s/common/oauth2/authorize", error="insufficient_claims", claims="%s"`,
				authorityOf(r.Host), base64.StdEncoding.EncodeToString([]byte(`{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`))))
			apologise(w, apology{http.StatusUnauthorized, "Unauthorized", "Continuous access evaluation resulted in claims challenge.", ""})
		case Garbage:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "<html>It works!</html>")
		case Redirected:
			http.Redirect(w, r, "https://elsewhere.example"+r.URL.Path, http.StatusTemporaryRedirect)
		case Huge:
			w.Header().Set("Content-Type", "application/json")
			for range 64 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		default:
			do(w, r, f)
		}
	}
}

// expired is what the vault says of a token past its time.
const expired = "[BearerReadAccessTokenFailed] Error validating token: 'IDX10223: Lifetime validation failed. The token is expired.'"

// authenticated wants a token for the host's resource. A body without one is ignored, and a client must not send one.
func (s *Server) authenticated(w http.ResponseWriter, r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		s.count(Challenge)
		s.challenge(w, r, "AKV10000: Request is missing a Bearer or PoP token.")
		return false
	}
	s.mu.Lock()
	resource := s.tokens[token]
	s.mu.Unlock()
	if resource == expired {
		s.challenge(w, r, expired)
		return false
	}
	if resource != resourceOf(r.Host) {
		s.challenge(w, r, "AKV10022: Invalid audience, or the token is not known.")
		return false
	}
	return true
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request, text string) {
	resource, authority := s.Resource, s.Authority
	if resource == "" {
		resource = resourceOf(r.Host)
	}
	if authority == "" {
		authority = authorityOf(r.Host) + "/" + s.Tenant
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="%s", resource="%s"`, authority, resource))
	apologise(w, apology{http.StatusUnauthorized, "Unauthorized", text, ""})
}

func apologise(w http.ResponseWriter, a apology) {
	e := map[string]any{"code": a.code, "message": a.text}
	if a.inner != "" {
		e["innererror"] = map[string]any{"code": a.inner}
	}
	write(w, a.status, map[string]any{"error": e})
}

// identifier names an object of the host's.
func identifier(r *http.Request, collection string, v *Version) string {
	return "https://" + r.Host + "/" + collection + "/" + v.Name + "/" + v.ID
}

// wanted finds the version that a request names, or answers that there is none.
func (s *Server) wanted(w http.ResponseWriter, r *http.Request, code, kind string) (found, newest *Version) {
	found, newest = s.find(r.PathValue("name"), r.PathValue("version"))
	if found == nil {
		apologise(w, apology{http.StatusNotFound, code, fmt.Sprintf("A %s with (name/id) %s was not found in this key vault. If you recently deleted this %s "+
			"you may be able to recover it using the correct recovery command.", kind, strings.TrimSuffix(r.PathValue("name")+"/"+r.PathValue("version"), "/"), kind), ""})
	}
	return found, newest
}

func (s *Server) getKey(w http.ResponseWriter, r *http.Request, f Fault) {
	v, newest := s.wanted(w, r, "KeyNotFound", "key")
	if v == nil {
		return
	}
	if f == OtherVersion {
		v = newest
	}
	ops := v.Ops
	if ops == nil {
		ops = []string{"sign", "verify"}
	}
	jwk := map[string]any{"kid": identifier(r, "keys", v), "key_ops": ops}
	kind := ""
	if isHSM(r.Host) {
		kind = "-HSM"
	}
	encode := base64.RawURLEncoding.EncodeToString
	switch pub := v.Signer.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC"+kind, pub.Curve.Params().Name, encode(point[1:1+half]), encode(point[1+half:])
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA"+kind, encode(pub.N.Bytes()), encode(big.NewInt(int64(pub.E)).Bytes())
	}
	if v.JWK != nil {
		v.JWK(jwk)
	}
	write(w, http.StatusOK, map[string]any{"key": jwk, "attributes": v.attributes()})
}

func (v *Version) attributes() map[string]any {
	a := map[string]any{"enabled": !v.Disabled, "created": 1700000000, "updated": 1700000000, "recoveryLevel": "Recoverable", "recoverableDays": 90}
	if !v.NotBefore.IsZero() {
		a["nbf"] = v.NotBefore.Unix()
	}
	if !v.Expires.IsZero() {
		a["exp"] = v.Expires.Unix()
	}
	return a
}

func (s *Server) sign(w http.ResponseWriter, r *http.Request, f Fault) {
	v, newest := s.wanted(w, r, "KeyNotFound", "key")
	if v == nil {
		return
	}
	bad := func(text string) { apologise(w, apology{http.StatusBadRequest, "BadParameter", text, ""}) }
	var body struct {
		Algorithm string `json:"alg"`
		Value     string
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&body); err != nil {
		bad("The request body is no JSON.")
		return
	}
	digest, err := base64.RawURLEncoding.DecodeString(body.Value)
	if err != nil {
		bad("Property has invalid value: value")
		return
	}
	refused := func(f Fault) {
		a := apologies[f]
		a.text = fmt.Sprintf(a.text, "sign")
		apologise(w, a)
	}
	now := time.Now()
	switch {
	case v.Disabled:
		refused(Disabled)
		return
	case !v.Expires.IsZero() && now.After(v.Expires):
		refused(KeyExpired)
		return
	case v.Ops != nil && !slices.Contains(v.Ops, "sign"):
		apologise(w, apology{http.StatusForbidden, "Forbidden", "Operation sign is not permitted on this key.", "KeyOperationForbidden"})
		return
	}
	id, signer := identifier(r, "keys", v), v.Signer
	if f == OtherKey || f == OtherVersion {
		signer = newest.Signer
	}
	if f == OtherVersion {
		id = identifier(r, "keys", newest)
	}
	time.Sleep(s.Latency)
	sig, err := signature(signer, body.Algorithm, digest, f)
	if err != nil {
		bad(err.Error())
		return
	}
	if f == Lost {
		panic(http.ErrAbortHandler)
	}
	write(w, http.StatusOK, map[string]any{"kid": id, "value": base64.RawURLEncoding.EncodeToString(sig)})
}

// signature signs a digest as the algorithm says: ECDSA as r and s side by side.
func signature(signer crypto.Signer, algorithm string, digest []byte, f Fault) ([]byte, error) {
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	if len(algorithm) != 5 || hashes[algorithm[2:]] == 0 {
		return nil, fmt.Errorf("Property has invalid value: alg") //nolint:staticcheck // the service's words
	}
	hash := hashes[algorithm[2:]]
	if len(digest) != hash.Size() {
		return nil, fmt.Errorf("Invalid length of 'value': %d bytes. '%s' requires %d bytes, encoded with base64url", len(digest), algorithm, hash.Size()) //nolint:staticcheck // the service's words
	}
	if f == ShortDigest {
		digest = append(append([]byte(nil), digest[:7]...), make([]byte, len(digest)-7)...)
	}
	switch key := signer.(type) {
	case *ecdsa.PrivateKey:
		want := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize]
		if algorithm != want {
			break
		}
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, err
		}
		width := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, width)), s.FillBytes(make([]byte, width))...), nil
	case *rsa.PrivateKey:
		switch algorithm[:2] {
		case "RS":
			return rsa.SignPKCS1v15(rand.Reader, key, hash, digest)
		case "PS":
			salt := rsa.PSSSaltLengthEqualsHash
			if f == LongSalt {
				salt = rsa.PSSSaltLengthAuto
			}
			return rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: salt})
		}
	}
	return nil, fmt.Errorf("Key and signing algorithm are incompatible: %s", algorithm) //nolint:staticcheck // the service's words
}

// certified finds the version whose certificate or secret a request is for.
func (s *Server) certified(w http.ResponseWriter, r *http.Request, f Fault, code, kind string) *Version {
	v, newest := s.wanted(w, r, code, kind)
	if v == nil {
		return nil
	}
	if f == OtherVersion {
		v = newest
	}
	if len(v.Certificates) == 0 || isHSM(r.Host) {
		apologise(w, apology{http.StatusNotFound, code, fmt.Sprintf("A %s with (name/id) %s was not found in this key vault.", kind, v.Name), ""})
		return nil
	}
	return v
}

func (s *Server) getCertificate(w http.ResponseWriter, r *http.Request, f Fault) {
	v := s.certified(w, r, f, "CertificateNotFound", "certificate")
	if v == nil {
		return
	}
	object := map[string]any{
		"id": identifier(r, "certificates", v), "kid": identifier(r, "keys", v), "sid": identifier(r, "secrets", v), "x5t": "abc",
		"cer": base64.StdEncoding.EncodeToString(v.Certificates[0].Raw), "attributes": v.attributes(), "tags": map[string]string{},
	}
	if v.Object != nil {
		v.Object(object)
	}
	write(w, http.StatusOK, object)
}

func (s *Server) getSecret(w http.ResponseWriter, r *http.Request, f Fault) {
	v := s.certified(w, r, f, "SecretNotFound", "secret")
	if v == nil {
		return
	}
	const asPEM, asPFX = "application/x-pem-file", "application/x-pkcs12"
	to := r.URL.Query().Get("outContentType")
	if to != "" && !v.Converts {
		apologise(w, apology{http.StatusBadRequest, "BadParameter", "outContentType is not supported", ""})
		return
	}
	var text bytes.Buffer
	if v.Exportable {
		der, err := x509.MarshalPKCS8PrivateKey(v.Signer)
		if err != nil {
			panic(err)
		}
		_ = pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	for _, c := range v.Certificates {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	object := map[string]any{"id": identifier(r, "secrets", v), "kid": identifier(r, "keys", v), "attributes": v.attributes(), "managed": true,
		"contentType": asPEM, "value": text.String()}
	if v.PFX && to != asPEM {
		// Not a PKCS #12 structure: clients here never read one.
		object["contentType"], object["value"] = asPFX, base64.StdEncoding.EncodeToString([]byte("\x30\x82 PFX"))
	}
	if v.Object != nil {
		v.Object(object)
	}
	write(w, http.StatusOK, object)
}
