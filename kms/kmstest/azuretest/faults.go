package azuretest

import "net/http"

// A Fault is what goes wrong with a request.
type Fault int

const (
	None           Fault = iota
	Throttled            // 429
	Failing              // 500, or 503 of Entra ID
	Denied               // 403, no role
	DeniedByPolicy       // 403, no access policy
	Firewalled           // 403, from another network
	Disabled             // 403, the key is disabled
	KeyExpired           // 403, past its expiry
	Deleting             // 409
	TokenExpired         // 401, for a token that was good, once and again
	Revoked              // 401, with the claims that a fresh token must have (continuous access evaluation)
	SecretExpired        // of the client's, at Entra ID
	Silent               // nothing is said
	OtherKey             // signed by the newest version, said to be by the one asked for
	OtherVersion         // signed by the newest version, and said so; a certificate or secret of the newest version
	LongSalt             // PSS with the longest salt
	ShortDigest          // a digest cut off is signed
	Lost                 // signed; the connection is cut before the answer
	Huge                 // an answer without an end
	Garbage              // no JSON
	Redirected           // to another host
)

// An apology is an error of Key Vault.
type apology struct {
	status     int
	code, text string
	inner      string
}

// Texts and codes as Key Vault writes them. %s is the operation, then the kind of object.
var apologies = map[Fault]apology{
	Throttled: {http.StatusTooManyRequests, "Throttled", "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached", ""},
	Failing:   {http.StatusInternalServerError, "InternalServerError", "The server encountered an unexpected error.", ""},
	Denied: {http.StatusForbidden, "Forbidden", "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions " +
		"were changed recently, please observe propagation time.\r\nCaller: appid=x;oid=y;iss=https://sts.windows.net/z/\r\nAction: '%s'\r\nDecisionReason: null", "ForbiddenByRbac"},
	DeniedByPolicy: {http.StatusForbidden, "Forbidden", "The user, group or application 'appid=x;oid=y' does not have %s permission on key vault 'v;location=westeurope'.", "ForbiddenByPolicy"},
	Firewalled:     {http.StatusForbidden, "Forbidden", "Client address is not authorized and caller is not a trusted service.\r\nClient address: 203.0.113.7", "ForbiddenByFirewall"},
	Disabled:       {http.StatusForbidden, "Forbidden", "Operation %s is not allowed on a disabled key.", "KeyDisabled"},
	KeyExpired:     {http.StatusForbidden, "Forbidden", "Operation %s is not allowed on an expired key.", "KeyExpired"},
	Deleting:       {http.StatusConflict, "Conflict", "Key is currently being deleted.", "ObjectIsBeingDeleted"},
}
