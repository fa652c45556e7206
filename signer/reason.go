package signer

import (
	"errors"
	"maps"
)

var (
	// ErrClaimMoves: another digest under the claimed tag holds the claim by the same leaf subject (reason
	// claim-moves). Nothing was written.
	ErrClaimMoves = errors.New("the claim moves")
	// ErrClaim: a claim that is not a tag or a qualified name, metadata that may not be signed, or a malformed
	// pattern of what may move (reasons claim-invalid, metadata-invalid, move-invalid).
	ErrClaim = errors.New("invalid claim")
	// ErrClock: now lies outside the chain's validity, or the expiry is not ahead (reasons clock, expiry-invalid).
	ErrClock = errors.New("time")
	// ErrAuthority: no time-stamping authority gave a countersignature that can be used (reasons tsa-unavailable, tsa-refused, tsa-invalid,
	// tsa-clock, tsa-revoked, tsa-revocation-unknown).
	ErrAuthority = errors.New("no timestamp was had")
)

// An Error carries a stable reason code.
type Error struct {
	Code string
	Err  error
}

func (e *Error) Error() string  { return e.Err.Error() }
func (e *Error) Unwrap() error  { return e.Err }
func (e *Error) Reason() string { return e.Code }

// Is reports whether e is of target's kind, so that callers can branch on the sentinels of this package and messages
// need not spell them out.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case codeClaimMoves:
		return target == ErrClaimMoves
	case codeClaim, codeMetadata, codeMove:
		return target == ErrClaim
	case codeClock, codeExpiry:
		return target == ErrClock
	case codeNoAnswer, codeTSARefused, codeTSAInvalid, codeTSAClock, codeTSARevoked, codeRevocation:
		return target == ErrAuthority
	}
	return false
}

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string {
	all := map[string]string{
		codeClaim:       "A claim is neither a tag nor a qualified name (HOST/REPO[:TAG]), or claims and their absence were asked for together.",
		codeClaimMoves:  "Another digest stands under a tag that is to be claimed and holds that claim by the same signer; nothing was written.",
		codeMetadata:    "Metadata to be signed is not valid UTF-8, is too much, has no name, or uses a reserved name.",
		codeMove:        "A pattern of tags that may move is malformed.",
		codeClock:       "The clock shows a time at which a certificate of the signing chain is not valid.",
		codeExpiry:      "The expiry asked for does not lie ahead, or lies too far ahead to be written.",
		codeLeafKey:     "None of the given certificates serves the key that signed: neither a certificate for that key, nor an issuer of the one it has.",
		codeIdentity:    "The new leaf certificate names another subject than the present one.",
		codeNotIssuedBy: "A given certificate has the issuer's name, but its key did not issue the certificate below it.",
		codeIncomplete:  "The certificates given and those of the signature make no complete chain up to a self-signed root.",
		codeEndsEarlier: "The new chain ends earlier than the present one.",
		codeChainSigned: "The certificate chain is in the protected header and cannot be exchanged.",
		codeTimestamp:   "The new chain does not cover the time that the signature's timestamp states, so verifiers that insist on the timestamp would refuse what they accept now.",
		codeSignature:   "The present signature does not verify, so nothing is built on it.",
		codeNoAnswer:    "No time-stamping authority could be reached, or none answered in time.",
		codeTSARefused:  "The time-stamping authority answered that it does not grant a timestamp.",
		codeTSAInvalid:  "What the time-stamping authority answered is no valid timestamp of what it was asked for; nothing of it was used.",
		codeTSAClock:    "The time-stamping authority states another time than the clock here shows.",
		codeTSARevoked:  "A certificate of the time-stamping authority is revoked.",
		codeRevocation:  "Whether the certificates of the time-stamping authority are revoked could not be determined.",
		codeUntrusted:   "The timestamp does not lead to one of the roots given for time-stamping authorities.",
		codeOutside:     "The timestamp does not lie inside the validity of the signature's whole certificate chain, so no verifier accepts the two together.",
		codeInexact:     "The timestamp says of itself that it may be wrong by more than a minute.",
		codeIgnored:     "The signature's scheme states a time that its signing authority vouches for: no verifier looks at a timestamp beside it.",
		codeExpired:     "The signature's own expiry has passed, which no timestamp forgives.",
	}
	maps.Copy(all, pruneReasons())
	return all
}

const (
	codeClaim      = "claim-invalid"
	codeClaimMoves = "claim-moves"
	codeMetadata   = "metadata-invalid"
	codeMove       = "move-invalid"
	codeClock      = "clock"
	codeExpiry     = "expiry-invalid"

	codeLeafKey     = "leaf-key-differs"
	codeIdentity    = "identity-changes"
	codeNotIssuedBy = "not-issued-by"
	codeIncomplete  = "chain-incomplete"
	codeEndsEarlier = "ends-earlier"
	codeChainSigned = "chain-is-signed"
	codeTimestamp   = "would-break-timestamp"
	codeSignature   = "signature-invalid"

	codeNoAnswer   = "tsa-unavailable"
	codeTSARefused = "tsa-refused"
	codeTSAInvalid = "tsa-invalid"
	codeTSAClock   = "tsa-clock"
	codeTSARevoked = "tsa-revoked"
	codeRevocation = "tsa-revocation-unknown"
	codeUntrusted  = "timestamp-untrusted"
	codeOutside    = "timestamp-outside-validity"
	codeInexact    = "timestamp-inexact"
	codeIgnored    = "timestamp-ignored"
	codeExpired    = "expired"
)
