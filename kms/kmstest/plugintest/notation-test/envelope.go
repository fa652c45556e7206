package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose" // both formats, not of imprint's making
	_ "github.com/notaryproject/notation-core-go/signature/jws"
)

func (r *run) envelope() (map[string]any, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	ders, err := r.chain()
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	payload, err := r.payload()
	if err != nil {
		return nil, err
	}
	signer, err := signature.NewLocalSigner(chain, key)
	if err != nil {
		return nil, err
	}
	e, err := signature.NewEnvelope(r.request.EnvelopeType)
	if err != nil {
		return nil, fail("VALIDATION_ERROR", "no envelope type %q", r.request.EnvelopeType)
	}
	s := &signature.SignRequest{
		Payload:       signature.Payload{ContentType: r.request.PayloadType, Content: payload},
		Signer:        signer,
		SigningTime:   time.Now(),
		SigningScheme: signature.SigningSchemeX509,
		SigningAgent:  "notation-test/1.2.3",
	}
	if r.request.Expiry > 0 {
		s.Expiry = s.SigningTime.Add(time.Duration(r.request.Expiry) * time.Second)
	}
	b, err := e.Sign(s)
	if err != nil {
		return nil, err
	}
	if r.fault == "envelope-garbage" {
		b = b[:len(b)/2]
	}
	return map[string]any{
		"signatureEnvelope": b, "signatureEnvelopeType": r.request.EnvelopeType,
		"annotations": map[string]string{"example.plugin/request": "7"},
	}, nil
}

// payload is what is signed: what was asked for, unless the fault says otherwise.
func (r *run) payload() ([]byte, error) {
	var p map[string]map[string]any
	if err := json.Unmarshal(r.request.Payload, &p); err != nil {
		return nil, fail("VALIDATION_ERROR", "the payload is no JSON: %v", err)
	}
	artifact := p["targetArtifact"]
	annotations, _ := artifact["annotations"].(map[string]any)
	if annotations == nil {
		annotations = map[string]any{}
	}
	switch r.fault {
	default:
		return r.request.Payload, nil
	case "payload-digest":
		artifact["digest"] = fmt.Sprintf("sha256:%064d", 1)
	case "payload-size":
		artifact["size"] = 1
	case "payload-annotated": // the specification lets plugins add some
		annotations["example.plugin/added"] = "yes"
		artifact["annotations"] = annotations
	case "payload-overridden":
		for name := range annotations {
			annotations[name] = "another"
		}
		artifact["annotations"] = annotations
	case "payload-member":
		artifact["unknown"] = "member"
	case "payload-beside":
		p["beside"] = map[string]any{}
	}
	return json.Marshal(p)
}
