package envelope

import "fmt"

// An Error is why an envelope was refused.
type Error struct {
	Code string // stable; listed by Reasons
	Err  error
}

func (e *Error) Error() string  { return e.Err.Error() }
func (e *Error) Unwrap() error  { return e.Err }
func (e *Error) Reason() string { return e.Code }

const (
	codeAlgorithm         = "algorithm-not-allowed"
	codeAlgorithmMismatch = "algorithm-mismatch"
	codeAttribute         = "attribute-unknown"
	codeChainInvalid      = "chain-invalid"
	codeChainMalformed    = "chain-malformed"
	codeChainSigned       = "chain-is-signed"
	codeClaims            = "claims-malformed"
	codeCritical          = "critical-invalid"
	codeCriticalUnknown   = "critical-unknown"
	codeFormat            = "format-mismatch"
	codeKey               = "key-misbehaved"
	codeLeafKey           = "leaf-key-differs"
	codeMalformed         = "envelope-malformed"
	codePayload           = "payload-malformed"
	codeScheme            = "scheme-unsupported"
	codeSignature         = "signature-invalid"
	codeTime              = "time-invalid"
	codeTimestamp         = "timestamp-malformed"
	codeTooLarge          = "envelope-too-large"
	codeUntrustedStamp    = "timestamp-untrusted"
)

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string {
	return map[string]string{
		codeAlgorithm:         "The signature names an algorithm, or its leaf certificate has a key, that is not one of the six of the Notary Project.",
		codeAlgorithmMismatch: "The algorithm in the protected header is not the one that the leaf certificate's key calls for.",
		codeAttribute:         "The protected header holds an attribute that is neither known nor named like an extension.",
		codeChainInvalid:      "The envelope's certificate chain breaks a rule that every verifier applies.",
		codeChainMalformed:    "The envelope's certificate chain is missing, too long or cannot be read.",
		codeChainSigned:       "The certificate chain is in the protected header, where it cannot be exchanged and stock verifiers do not look for it.",
		codeClaims:            "The annotation " + ClaimsAnnotation + " is not a JSON array of strings.",
		codeCritical:          "The list of critical attributes is missing, incomplete, repeats an entry or names what is not there.",
		codeCriticalUnknown:   "The signature marks an attribute as critical that imprint does not know.",
		codeFormat:            "The media type is not that of a signature envelope, or the bytes are those of the other format.",
		codeKey:               "The key service returned something that is not the signature it was asked for, by the leaf certificate's key.",
		codeLeafKey:           "The new chain's leaf certificate is for another public key than the one that signed.",
		codeMalformed:         "The envelope is not a strictly formed JWS or COSE_Sign1 envelope.",
		codePayload:           "The payload is not a strictly formed Notary Project payload, or what was to be signed cannot be one.",
		codeScheme:            "The signing scheme is missing or unknown.",
		codeSignature:         "The leaf certificate's key did not sign these bytes.",
		codeTime:              "A time in the protected header is missing, malformed, out of order or belongs to the other signing scheme.",
		codeTimestamp:         "The timestamp token cannot be read or is for another signature.",
		codeUntrustedStamp:    "The timestamp token is no countersignature of a time-stamping authority below one of the given roots.",
		codeTooLarge:          "The envelope has more than 1 MiB, or its protected header more attributes than are read.",
	}
}

func refuse(code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}
