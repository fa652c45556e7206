package cmd

import (
	"context"
	"errors"
	"slices"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/signer"
	"github.com/imprint-oci/imprint/trust"
)

// reasonHints maps reason codes to what to do next; they are asked before errorHints. A hint never suggests loosening a policy.
var reasonHints = map[string]string{
	"expired":                "a certificate ran out: get it renewed; existing signatures take the new chain with imprint rechain",
	"not-yet-valid":          "it cannot be used before that; if the day has come, check this machine's clock: imprint doctor",
	"clock":                  "check this machine's clock: imprint doctor",
	"leaf-key-differs":       "rechain keeps the signature, so it needs a certificate for the key that made it; imprint inspect shows that certificate",
	"identity-changes":       "verifiers that pin the old name will refuse the new one; if that is meant: --allow-identity-change",
	"not-issued-by":          "two certificates share a name: give the one whose key signed; imprint chain show FILE",
	"chain-incomplete":       "add the missing issuer, up to the self-signed root, to the file; imprint chain check FILE",
	"ends-earlier":           "give the chain that lasts longer; if the shorter life is meant: --allow-shorter",
	"chain-is-signed":        "this signature carries its chain where it is signed: only signing again can renew it",
	"would-break-timestamp":  "leave out --replace: beside the old signature the new one harms nobody",
	"signature-invalid":      "this signature was damaged or forged: compare it with its source; imprint inspect",
	"as-required":            "say where it is going to live: --as HOST/REPO:TAG",
	"unsigned":               "imprint sign signs it; imprint tree shows what refers to it",
	"realm-not-trusted":      "no credential was sent there; if that token service is the registry's own: --trust-realm HOST",
	"credential-helper":      "docker's config.json names that program: run it by hand to see what it lacks",
	"root-not-found":         "imprint policy init without --root-sha256 shows what was found; if yours is not there, nobody signed under your root",
	"fingerprint-invalid":    "give all of it: what only begins alike can be made by anybody; openssl x509 -noout -fingerprint -sha256 -in FILE prints it",
	"policy-unreadable":      "see how its name is spelled; a relative one starts in the working folder, and in a policy in that policy's folder",
	"policy-digest":          "the policy is not the one that was pinned: find out who changed it",
	"metadata-invalid":       "metadata is KEY=VALUE in plain text; names that begin with io.cncf.notary or io.imprint are taken",
	"disk":                   "check space and permissions: nothing half-written was left behind",
	"expiry-invalid":         "an expiry is a time ahead, as 90d or 12h",
	"private-key":            "give the certificates alone; the key goes to --key",
	"no-certificates":        "name a file with certificates: PEM, DER or PKCS#7",
	"malformed-certificates": "name a file with certificates and nothing else: PEM, DER or PKCS#7",
	"file-exists":            "choose another name; an archive is replaced with --overwrite",
	"platform-not-found":     "name one of those; without --platform all of them go along",
	"catalog-unsupported":    "name the repositories, one a line: imprint audit --batch FILE",
	"catalog-empty":          "check the name; what a login is not allowed to see is not listed either: imprint login HOST",
	"address-private":        "if that service is your own, and inside of your network on purpose: --allow-private",
	"fetch-timeout":          "run it again when the service answers; behind a proxy HTTP_PROXY and HTTPS_PROXY name it",
	"fetch-failed":           "check the way there: its name, the network, and the proxy (HTTP_PROXY, HTTPS_PROXY)",
	"answer-too-large":       "what is there is not what belongs there: who runs that service should look",

	"revoked":                    "give certificates that are not: --chain FILE; nothing was written",
	"revocation-unknown":         "hand in the list that holds now, as its authority publishes it: --crl FILE",
	"revocation-list-invalid":    "a list is DER or PEM (X509 CRL), as its authority publishes it: openssl crl -in FILE -noout -text shows one",
	"revocation-list-unreadable": "name a revocation list, or a folder that holds nothing else",

	"tsa-unavailable":            "nothing was pushed without its timestamp: run it again when the authority answers, or name another besides: --timestamp-url",
	"tsa-refused":                "its operator knows why: the policy of the authority, its quota, or the hash; another authority: --timestamp-url",
	"tsa-invalid":                "nothing of the answer was used: check the URL, and that no proxy or login page answers in its place",
	"tsa-clock":                  "check this machine's clock: imprint doctor; if that is right the authority's is wrong: name another",
	"tsa-revoked":                "nothing was timestamped by it: name another authority, and tell its operator",
	"tsa-revocation-unknown":     "its certificates say where that is published: check the way there and run it again, or name another authority",
	"timestamp-untrusted":        "give the root of this very authority, as its operator publishes it: --timestamp-roots FILE",
	"timestamp-ignored":          "leave out --timestamp-url: a timestamp would make no difference to any verifier",
	"timestamp-outside-validity": "renew chain and timestamp in one step: imprint rechain --chain FILE --timestamp-url URL",

	"delegation-malformed": "a document that holds together is written by imprint policy delegate make",
	"delegation-scope":     "grants are for what is under the scope of their document",
	"delegation-not-newer": "go on from what is there: imprint policy delegate make --from REF --out FILE",

	// What key services say; their own remedy, where they have one, comes first.
	kms.CodeCredentials: "imprint help keys says which variables and commands give credentials to each key service",
	kms.CodeExpired:     "log in to the key service again; imprint help keys says how for each",
	kms.CodeDenied:      "whoever owns the key must allow it: imprint help keys lists the permissions that each key service asks for",
	kms.CodeNotFound:    "check its name, version, region and account, and whose credentials are used; imprint help keys shows how keys are named",
	kms.CodeUnusable:    "look at the key's state where it is kept, enable it, or name a version that signs; imprint key show KEY asks without signing",
	kms.CodeThrottled:   "run it again later with fewer --jobs, or have the key service's quota raised",
	kms.CodeUnreachable: "check the way there: the service's address, the proxy (HTTPS_PROXY) and its CA (SSL_CERT_FILE)",
	kms.CodePlugin:      "plugins are installed as NAME/notation-NAME in notation's plugin folder; imprint help keys",
	kms.CodeSignature:   "it was used for nothing: the key may have been rotated since it was opened; run it again, imprint key show KEY --probe tries the key alone",
	kms.CodeService:     "check the key service, and that no proxy or login page answers in its place; then run it again",
	kms.CodeFile:        "name the file of a private key, as --key file:release.key; imprint key generate FILE makes one",
	kms.CodePermissions: "only its owner may read a key that is not encrypted: chmod 600 FILE",
	kms.CodeFormat:      "imprint help keys lists what a key file may be",
	kms.CodeURI:         "imprint help keys shows how the keys of each service are named",
	kms.CodeAlgorithm:   "make another key: the algorithm of a key stays as it was made; imprint help keys lists those that sign",
}

// errorHints maps sentinels to what to do next: the first that fits.
var errorHints = []struct {
	err  error
	hint string
}{
	{registry.ErrTagMoves, "if the tag is meant to move: --move with its name"},
	{signer.ErrClaimMoves, "another digest holds that tag by the same signer; if the tag is meant to move: --move with its name"},
	{registry.ErrTagMismatch, "the tag moved, or the digest is another one's: imprint tree shows what the tag names now"},
	{registry.ErrAmbiguous, "different programs would read this manifest differently: build and push it again"},
	{registry.ErrReference, "references: HOST/REPO:TAG@DIGEST, oci:DIR:NAME, oci-archive:FILE.tar:NAME; imprint help references"},
	{registry.ErrConfig, "imprint doctor shows the files and settings in use"},
	{registry.ErrUnauthorized, "log in: imprint login HOST; or ask for the right to do this"},
	{registry.ErrUnsettled, "run it again: what is there already is found and kept"},
	{registry.ErrNotFound, "check the name; in a registry a missing login can look like this too: imprint login HOST"},
	{registry.ErrUnavailable, "nothing was lost: run it again when the registry answers; imprint doctor REF looks closer"},
	{registry.ErrUnsupported, "imprint doctor REF shows what this registry can do"},
	{registry.ErrDigestMismatch, "the registry or a proxy before it sends wrong bytes: nothing of it was used"},
	{registry.ErrCapped, "the registry lists more than imprint follows, or in circles: who owns it should look; nothing of that list was used"},
	{registry.ErrTooLarge, "what the registry sent is beyond imprint's limits: nothing of it was used"},
	{registry.ErrMalformed, "what is there is damaged, or not what its name says: nothing of it was used"},
	{registry.ErrRefused, "the registry's answer says why: its owner may have made tags immutable, or set a quota; imprint doctor REF shows what it can do"},
	{registry.ErrFile, "files are written PATH or PATH:MEDIATYPE, and each has a name of its own; imprint publish --help"},
	{registry.ErrExists, "choose another name; an archive is replaced with --overwrite"},
	{registry.ErrDisk, "check space and permissions: nothing half-written was left behind"},
	{kms.ErrSecret, "the passphrase: --passphrase-file FILE, --passphrase-fd N, IMPRINT_PASSPHRASE, or a terminal to ask at"},
	{kms.ErrUnknownScheme, "keys are URIs, as file:release.key; imprint help keys"},
	{envelope.ErrKeyMisbehaved, "nothing was pushed: check that --key and the key's algorithm are the certificate's"},
	{kms.ErrService, "check the key service, and the right to sign with this key"},
	{certchain.ErrKeyMismatch, "give the key and the chain that belong together; imprint chain check FILE --key KEY compares them"},
	{certchain.ErrIncomplete, "add the missing issuer, up to the self-signed root, to the file; imprint chain check FILE"},
	{certchain.ErrNotIssuedBy, "two certificates share a name: give the one whose key signed; imprint chain show FILE"},
	{kms.ErrInvalid, "imprint help keys says which keys can be used, and how they are named"},
	{signer.ErrClaim, "a claim is a tag (--claim 1.4) or a full name (--claim-name HOST/REPO:TAG)"},
	{trust.ErrAs, "say where it is going to live: --as HOST/REPO:TAG"},
	{context.DeadlineExceeded, "give it more time: --timeout 15m; imprint doctor REF looks closer"},
	{trust.ErrPolicy, "imprint policy check --policy FILE checks a policy; imprint help policy"},
}

// A hinted is an error whose hint only the command knows.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// hint returns what to do next about err, "" if there is nothing to say.
func hint(err error) string {
	var i *interrupted
	if errors.As(err, &i) {
		return "what is done stays done: run it again"
	}
	var own *usageError
	if errors.As(err, &own) && own.hint != "" {
		return own.hint
	}
	var at *hinted
	if errors.As(err, &at) {
		return at.hint
	}
	var v *verdict
	if errors.As(err, &v) && v.hint != "" {
		return v.hint
	}
	if r := remedy(err); r != "" {
		return r
	}
	var r *refusal
	if errors.As(err, &r) {
		return r.hint()
	}
	if h, ok := reasonHints[reason(err)]; ok {
		return h
	}
	for _, e := range errorHints {
		if errors.Is(err, e.err) {
			return e.hint
		}
	}
	var config *configError
	if errors.As(err, &config) {
		return "mend that file, or name another with --config; imprint doctor shows which one is used"
	}
	var rule *certchain.RuleError
	if errors.As(err, &rule) {
		return "imprint chain check FILE shows the chain and the rule it breaks"
	}
	return ""
}

// remedy returns what a key service's provider says is missing, "" if it says nothing.
func remedy(err error) string {
	var e *kms.Error
	for errors.As(err, &e) {
		if e.Remedy != "" {
			return e.Remedy
		}
		err = e.Err
	}
	return ""
}

// idToken is what a job in GitHub Actions lacks in order to have credentials by OpenID Connect.
const idToken = "in this GitHub Actions job also set `permissions: id-token: write`"

// lacksToken reports whether err is a refusal for want of credentials in a job that cannot have a token.
func (s *session) lacksToken(err error) bool {
	if s.env.Getenv("GITHUB_ACTIONS") != "true" || s.env.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != "" || !errors.Is(err, kms.ErrService) {
		return false
	}
	switch reason(err) {
	case kms.CodeCredentials, kms.CodeExpired, kms.CodeDenied:
		return slices.Contains(federated, s.keyScheme)
	}
	return false
}

// federated are the schemes of keys whose services take the token of a CI job for credentials.
var federated = []string{"awskms", "gcpkms", "azurekms", "hashivault", "openbao"}
