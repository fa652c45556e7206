package awstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// specOf returns the key spec of a public key, and the algorithms that the service has for it.
func specOf(pub crypto.PublicKey) (spec string, algorithms []string) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		for _, scheme := range []string{"RSASSA_PKCS1_V1_5", "RSASSA_PSS"} {
			for _, bits := range []int{256, 384, 512} {
				algorithms = append(algorithms, fmt.Sprintf("%s_SHA_%d", scheme, bits))
			}
		}
		return fmt.Sprintf("RSA_%d", pub.N.BitLen()), algorithms
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return "ECC_NIST_P256", []string{"ECDSA_SHA_256"}
		case elliptic.P384():
			return "ECC_NIST_P384", []string{"ECDSA_SHA_384"}
		case elliptic.P521():
			return "ECC_NIST_P521", []string{"ECDSA_SHA_512"}
		}
	}
	panic(fmt.Sprintf("awstest: AWS KMS has no keys of type %T", pub))
}

// A request has what the operations take.
type request struct {
	KeyID            string `json:"KeyId"`
	Message          []byte
	MessageType      string
	SigningAlgorithm string
}

// answer carries an operation out.
func (s *Server) answer(op, region string, body []byte, fault Fault) (any, *failure) {
	var r request
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, &failure{400, "SerializationException", ""}
	}
	k, f := s.find(region, r.KeyID)
	if e := failures[fault]; e != nil {
		arn := "arn:aws:kms:" + region + ":" + Account + ":key/*"
		if k != nil {
			arn = k.ARN
		}
		return nil, e.about(op, arn)
	}
	if f != nil {
		return nil, f
	}
	switch op {
	case "DescribeKey":
		return map[string]any{"KeyMetadata": map[string]any{"Arn": k.ARN, "KeySpec": k.Spec, "KeyUsage": k.Usage}}, nil
	case "GetPublicKey":
		if f := k.refuses(); f != nil {
			return nil, f
		}
		if k.Public == nil {
			return nil, &failure{400, "UnsupportedOperationException", k.ARN + " key spec is " + k.Spec + " which is not valid for GetPublicKey."}
		}
		return map[string]any{
			"KeyId": k.ARN, "KeySpec": k.Spec, "CustomerMasterKeySpec": k.Spec, "KeyUsage": k.Usage,
			"PublicKey": k.Public, "SigningAlgorithms": k.Algorithms,
		}, nil
	case "Sign":
		if f := k.refuses(); f != nil {
			return nil, f
		}
		return s.sign(k, r, fault)
	}
	return nil, &failure{400, "UnknownOperationException", ""}
}

// find looks a key up as the service does: by id, ARN, alias or alias ARN, in one region.
func (s *Server) find(region, id string) (*Key, *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn := id
	switch {
	case strings.HasPrefix(id, "arn:"):
		if parts := strings.Split(id, ":"); len(parts) != 6 || parts[3] != region {
			return nil, &failure{400, "NotFoundException", "Invalid arn " + region}
		}
	case strings.HasPrefix(id, "alias/"):
		arn = aliasARN(region, strings.TrimPrefix(id, "alias/"))
	default:
		arn = "arn:aws:kms:" + region + ":" + Account + ":key/" + id
	}
	if k := s.aliases[arn]; k != nil {
		return k, nil
	}
	if strings.Contains(arn, ":alias/") {
		return nil, &failure{400, "NotFoundException", "Alias " + arn + " is not found."}
	}
	for _, k := range s.keys {
		if k.ARN == arn {
			return k, nil
		}
	}
	return nil, &failure{400, "NotFoundException", "Key '" + arn + "' does not exist"}
}

func (k *Key) refuses() *failure {
	switch k.State {
	case Disabled:
		return &failure{400, "DisabledException", k.ARN + " is disabled."}
	case PendingDeletion:
		return &failure{400, "KMSInvalidStateException", k.ARN + " is pending deletion."}
	}
	return nil
}

var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

func (s *Server) sign(k *Key, r request, fault Fault) (any, *failure) {
	scheme, bits, ok := strings.Cut(r.SigningAlgorithm, "_SHA_")
	hash := hashes[bits]
	switch {
	case !ok || hash == 0:
		return nil, &failure{400, "ValidationException", "1 validation error detected: Value '" + r.SigningAlgorithm +
			"' at 'signingAlgorithm' failed to satisfy constraint"}
	case k.Usage != "SIGN_VERIFY":
		return nil, &failure{400, "InvalidKeyUsageException", k.ARN + " key usage is " + k.Usage + " which is not valid for Sign."}
	case !slices.Contains(k.Algorithms, r.SigningAlgorithm):
		return nil, &failure{400, "InvalidKeyUsageException", "Algorithm " + r.SigningAlgorithm + " is incompatible with key spec " + k.Spec + "."}
	case len(r.Message) == 0 || len(r.Message) > 4096:
		return nil, &failure{400, "ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: " +
			"Member must have length less than or equal to 4096"}
	}
	digest := r.Message
	if r.MessageType != "DIGEST" {
		digest = sum(hash, r.Message)
	}
	if len(digest) != hash.Size() {
		return nil, &failure{400, "ValidationException", "Digest is invalid length for algorithm " + r.SigningAlgorithm + "."}
	}
	sig, err := s.signature(k, scheme, hash, digest, fault)
	if err != nil {
		return nil, &failure{500, "KMSInternalException", err.Error()}
	}
	return map[string]any{"KeyId": k.ARN, "Signature": sig, "SigningAlgorithm": r.SigningAlgorithm}, nil
}

// signature signs as the service does, or as the fault has it.
func (s *Server) signature(k *Key, scheme string, hash crypto.Hash, digest []byte, fault Fault) ([]byte, error) {
	signer, opts := k.Signer, crypto.SignerOpts(hash)
	if scheme == "RSASSA_PSS" {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	switch fault {
	case OtherKey:
		signer = s.other(k)
	case LongSalt:
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: hash}
	case PKCS1:
		opts = hash
	case Truncated:
		digest = digest[:5]
		if _, ok := signer.Public().(*rsa.PublicKey); ok {
			digest = sum(hash, digest) // package rsa takes none that is shorter
		}
	}
	return signer.Sign(rand.Reader, digest, opts)
}

// other returns a key of k's spec that is not k's.
func (s *Server) other(k *Key) crypto.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.others[k.Spec] != nil {
		return s.others[k.Spec]
	}
	var made crypto.Signer
	var err error
	switch pub := k.Signer.Public().(type) {
	case *rsa.PublicKey:
		made, err = rsa.GenerateKey(rand.Reader, pub.N.BitLen())
	case *ecdsa.PublicKey:
		made, err = ecdsa.GenerateKey(pub.Curve, rand.Reader)
	}
	if err != nil {
		panic(fmt.Errorf("awstest: another %s key: %w", k.Spec, err))
	}
	s.others[k.Spec] = made
	return made
}

func sum(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}
