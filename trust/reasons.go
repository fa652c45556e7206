package trust

// Codes of policies that do not load.
const (
	codeUnreadable     = "policy-unreadable"
	codeUnsafe         = "policy-file-unsafe"
	codeTooLarge       = "policy-too-large"
	codePath           = "policy-path"
	codeSyntax         = "policy-syntax"
	codeFeature        = "policy-yaml-feature"
	codeDuplicateKey   = "policy-key-duplicate"
	codeKeyUnknown     = "policy-key-unknown"
	codeMissing        = "policy-key-missing"
	codeType           = "policy-type"
	codeValue          = "policy-value"
	codeVersion        = "policy-version"
	codeScope          = "policy-scope-invalid"
	codeScopeDuplicate = "policy-scope-duplicate"
	codeRule           = "policy-rule"
	codeInherit        = "policy-inherit"
	codeMirror         = "policy-mirror"
	codeUnsignedWide   = "policy-unsigned-wide"
	codeRootUnknown    = "policy-root-unknown"
	codeRootFile       = "policy-root-unreadable"
	codeRootInvalid    = "policy-root-invalid"
	codeRootDuplicate  = "policy-root-duplicate"
	codeIdentity       = "policy-identity-invalid"
)

// Codes of delegation documents.
const (
	codeDelegateFile           = "policy-delegate-unreadable"
	codeDelegationMalformed    = "delegation-malformed"
	codeDelegationScope        = "delegation-scope"
	codeDelegationUntrusted    = "delegation-untrusted"
	codeDelegationExpired      = "delegation-expired"
	codeDelegationAhead        = "delegation-issued-in-the-future"
	codeDelegationRollback     = "delegation-rollback"
	codeDelegationEquivocation = "delegation-equivocation"
	codeDelegationState        = "delegation-state"
	codeDelegationUnavailable  = "delegation-unavailable"
)

// Codes of signatures and verdicts.
const (
	codeNoScope        = "no-scope"
	codeRejected       = "rejected-by-policy"
	codeUnsigned       = "unsigned"
	codeNoTrusted      = "no-trusted-signature"
	codeUnfetched      = "unfetched"
	codeMalformed      = "manifest-malformed"
	codePayload        = "payload-mismatch"
	codeWeak           = "certificate-weak"
	codeBeyondSpec     = "beyond-spec"
	codeIncomplete     = "require-unsatisfied"
	codeKeyTwice       = "key-used-twice"
	codeNoDocument     = "delegation-unasked"
	codeRootNotTrusted = "root-not-trusted"
	codeKind           = "kind-not-trusted"
	codeMismatch       = "identity-mismatch"
	codeAlgorithm      = "algorithm-not-allowed"
	codeExpired        = "expired"
	codeCertExpired    = "certificate-expired"
	codeCertNotYet     = "certificate-not-yet-valid"
	codeTooOld         = "too-old"
	codeAhead          = "signed-in-the-future"
	codeClaimsMissing  = "claims-missing"
	codeNotCovered     = "claim-not-covered"
	codeClaimsBad      = "claims-malformed"
	codeStampMissing   = "timestamp-missing"
	codeStampInexact   = "timestamp-inexact"
	codeStampAhead     = "timestamp-in-the-future"
	codeStampOutside   = "timestamp-outside-validity"
	codeStampUntrusted = "timestamp-untrusted"
	codeAsRequired     = "as-required"
	codeAsInvalid      = "as-invalid"

	codeRevoked           = "revoked"
	codeRevocationUnknown = "revocation-unknown"
	codeListUnreadable    = "revocation-list-unreadable"
	codeListInvalid       = "revocation-list-invalid"
	codeFingerprint       = "fingerprint-invalid"
	codeRootNotFound      = "root-not-found"
)

// Reasons returns the reason codes of this package with one sentence each.
func Reasons() map[string]string {
	return map[string]string{
		codeUnreadable:     "The policy file cannot be read.",
		codeUnsafe:         "The policy, or a file that it names, is not a regular file, or everybody may write it.",
		codeTooLarge:       "The policy, or a file that it names, is larger than imprint reads.",
		codePath:           "The policy names a file outside its own folder by \"..\" or through a symlink.",
		codeSyntax:         "The policy is not one YAML document in UTF-8.",
		codeFeature:        "The policy uses a YAML anchor, alias, merge key or tag, which policies do without.",
		codeDuplicateKey:   "A key stands twice in the same mapping of the policy.",
		codeKeyUnknown:     "The policy holds a key that means nothing there.",
		codeMissing:        "A key that the policy must have is not there.",
		codeType:           "A value of the policy has another type than its key asks for.",
		codeValue:          "A value of the policy is not one of those that its key allows.",
		codeVersion:        "The policy is of another version than 1.",
		codeScope:          "A scope is not *, a host, or a host with a path in canonical form.",
		codeScopeDuplicate: "Two scopes of the policy have the same canonical form.",
		codeRule:           "A scope has no rule, or more than one, or an empty one.",
		codeInherit:        "A scope inherits where there is nothing to inherit, or where its rule allows no merge.",
		codeMirror:         "A mirror is of nothing that a scope holds for, of two originals, or of another mirror.",
		codeUnsignedWide:   "A scope accepts what is unsigned on everything or on a whole host.",
		codeRootUnknown:    "A root is named that the policy does not define.",
		codeRootFile:       "A root's file cannot be read, or holds no certificate.",
		codeRootInvalid:    "A root's certificate cannot stand in a chain where the root's pin says, or one of timestamps is no self-signed authority.",
		codeRootDuplicate:  "Two roots of the policy hold the same certificate.",
		codeIdentity:       "An identity is neither a distinguished name nor a uri:, dns: or email: name.",

		codeDelegateFile:           "The layout or archive that a scope's delegate names cannot be read, or does not hold one delegation document.",
		codeDelegationMalformed:    "A delegation document breaks its format, so nothing that it grants counts.",
		codeDelegationScope:        "A delegation document reaches beyond its own scope or that of the policy, so nothing that it grants counts.",
		codeDelegationUntrusted:    "A delegation document is not signed by whom the policy names for it, so nothing that it grants counts.",
		codeDelegationExpired:      "A delegation document has expired, so nothing that it grants counts.",
		codeDelegationAhead:        "A delegation document says that it was issued in the future, so nothing that it grants counts.",
		codeDelegationRollback:     "A delegation document is of a lower version than was seen before, or than the policy asks for.",
		codeDelegationEquivocation: "Two delegation documents of the same version differ: nothing that the newer found one grants counts.",
		codeDelegationState:        "The file of delegation documents that were seen before cannot be understood (rejected), or not be read or written (undetermined).",
		codeDelegationUnavailable:  "A delegation document, on which the verdict depends, could not be had, or not be judged.",

		codeNoScope:        "No scope of the policy matches the reference; there is no implicit *.",
		codeRejected:       "The scope that is selected for the reference rejects everything.",
		codeUnsigned:       "The artifact has no signature.",
		codeNoTrusted:      "None of the artifact's signatures has a root that the selected scope trusts.",
		codeUnfetched:      "A signature is listed but could not be fetched.",
		codeMalformed:      "A signature's manifest is malformed.",
		codePayload:        "What was signed is another artifact: its media type, digest or size differ.",
		codeWeak:           "The certificate chain rests on SHA-1, MD5, a key that is too short, or a serial number that is not positive.",
		codeBeyondSpec:     "The certificate chain breaks a rule that other verifiers pass over, and the scope says strict-x509.",
		codeIncomplete:     "The scope requires a signature of each of several groups, and one of them has none.",
		codeKeyTwice:       "Each group that the scope requires has a signature, but one key would stand for several groups.",
		codeNoDocument:     "What the scope delegates was not asked for, and none of its own roots accepts a signature.",
		codeRootNotTrusted: "None of the roots that the selected scope trusts stands in the chain where it has to stand.",
		codeKind:           "The signature's scheme is that of a signing authority and the root a certification authority, or the other way round.",
		codeMismatch:       "The leaf certificate is not of an identity that the policy names.",
		codeAlgorithm:      "The signature's algorithm is not one of those that the policy allows.",
		codeExpired:        "The signature has an expiry, and it is over.",
		codeCertExpired:    "A certificate of the chain has expired.",
		codeCertNotYet:     "A certificate of the chain is not valid yet.",
		codeTooOld:         "The signature is older than the policy's max-age.",
		codeAhead:          "The policy limits the signature's age, and its signing time lies in the future.",
		codeClaimsMissing:  "The signature claims nothing, and the policy asks for a claim.",
		codeNotCovered:     "The signature claims other names than the one by which the artifact was referred to.",
		codeClaimsBad:      "The signature's claims are not a JSON array of strings.",
		codeStampMissing:   "The policy always asks for a timestamp, and the signature has none.",
		codeStampInexact:   "The timestamp's accuracy is worse than a minute.",
		codeStampAhead:     "The timestamp lies in the future.",
		codeStampOutside:   "The timestamp, with its accuracy, does not lie inside the validity of every certificate.",
		codeAsRequired:     "A layout or archive whose NAME is not a full name is judged by a policy only with --as.",
		codeAsInvalid:      "What --as says is not HOST/REPO[:TAG].",

		codeRevoked:           "A certificate of the chain, or of its timestamp's authority, is revoked.",
		codeRevocationUnknown: "Whether a certificate is revoked could not be determined, and the policy asks for it.",
		codeListUnreadable:    "A revocation list cannot be read.",
		codeListInvalid:       "A file that is named as a revocation list is none, or a folder holds none.",
		codeFingerprint:       "A fingerprint is not the whole SHA-256 of a certificate in hex.",
		codeRootNotFound:      "No usable signature was found under a root with the fingerprint that was handed in.",
	}
}
