package vaulttest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"

	"github.com/imprint-oci/imprint/certchain/certtest"
)

func (k *transitKey) rotate() answer {
	if k == nil {
		return refuse(http.StatusBadRequest, "key not found")
	}
	last := k.versions[len(k.versions)-1].signer
	if last == nil {
		return refuse(http.StatusInternalServerError, multi("vaulttest does not rotate symmetric keys"))
	}
	k.versions = append(k.versions, &version{signer: certtest.Key(algorithmOf(last))})
	return k.read()
}

func (k *transitKey) config(body []byte) answer {
	var in struct {
		Minimum int `json:"min_encryption_version"`
	}
	switch err := json.Unmarshal(body, &in); {
	case err != nil:
		return refuse(http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
	case k == nil:
		return refuse(http.StatusBadRequest, "no existing key could be found")
	case in.Minimum > len(k.versions):
		return refuse(http.StatusBadRequest, "cannot set min encryption version of a higher number than the latest version")
	}
	k.minimum = in.Minimum
	return k.read()
}

// csr makes a request for the latest version, with the subject of a template.
func (k *transitKey) csr(body []byte) answer {
	var in struct {
		Template string `json:"csr"`
	}
	switch err := json.Unmarshal(body, &in); {
	case err != nil:
		return refuse(http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
	case k == nil:
		return refuse(http.StatusBadRequest, "key not found")
	}
	request := new(x509.CertificateRequest)
	if block, _ := pem.Decode([]byte(in.Template)); block != nil {
		template, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return refuse(http.StatusBadRequest, "failed to parse the provided template CSR: "+err.Error())
		}
		request.RawSubject, request.DNSNames = template.RawSubject, template.DNSNames
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, k.versions[len(k.versions)-1].signer)
	if err != nil {
		return refuse(http.StatusInternalServerError, multi(err.Error()))
	}
	return answer{status: http.StatusOK, data: map[string]any{"name": k.name, "type": k.kind,
		"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}}
}

// setCertificate keeps a chain whose first certificate is for the key's latest version, or the one named.
func (k *transitKey) setCertificate(body []byte) answer {
	var in struct {
		Chain   string `json:"certificate_chain"`
		Version int    `json:"version"`
	}
	switch err := json.Unmarshal(body, &in); {
	case err != nil:
		return refuse(http.StatusBadRequest, "failed to parse JSON input: "+err.Error())
	case k == nil:
		return refuse(http.StatusBadRequest, "no existing key named")
	}
	if in.Version == 0 {
		in.Version = len(k.versions)
	}
	block, _ := pem.Decode([]byte(in.Chain))
	if block == nil {
		return refuse(http.StatusBadRequest, "no PEM encoded certificates found")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || in.Version < 1 || in.Version > len(k.versions) {
		return refuse(http.StatusBadRequest, "failed to parse certificate chain")
	}
	v := k.versions[in.Version-1]
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(v.signer.Public()) {
		return refuse(http.StatusInternalServerError, multi("leaf certificate public key does match the key version selected"))
	}
	v.chain = strings.TrimSpace(in.Chain)
	return k.read()
}
