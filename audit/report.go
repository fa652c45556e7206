package audit

import (
	"crypto/x509"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/imprint-oci/imprint/certchain"
)

// A Report is what an audit of repositories came to. It names each certificate once, by its fingerprint, however many signatures have
// it. It says what expires and what is odd; it never says "trusted".
type Report struct {
	Now time.Time `json:"now"`
	// ListBefore: what ends earlier is listed as expiring (--within). FailBefore: what ends earlier makes the audit fail
	// (--fail-within); nil: nothing does.
	ListBefore time.Time  `json:"listBefore"`
	FailBefore *time.Time `json:"failBefore,omitempty"`

	Counts       Counts                  `json:"counts"`
	Repositories []Repository            `json:"repositories"` // by name
	Artifacts    []Artifact              `json:"artifacts"`    // by repository, tag, digest; those of an index after it
	Certificates map[string]*Certificate `json:"certificates"` // by fingerprint: lower-case hex SHA-256 of the DER
	Expiries     []Expiry                `json:"expiries"`     // the earliest first; only what counts
	Findings     []FindingGroup          `json:"findings"`     // problems first; the findings themselves stand at their artifacts
	Unseen       []Unseen                `json:"unseen"`       // what could not be read or listed
}

// Counts are the numbers of a report.
type Counts struct {
	Repositories int `json:"repositories"`
	Artifacts    int `json:"artifacts"` // all that was seen: tagged, platform images, SBOMs and the like; no signatures
	Tagged       int `json:"tagged"`    // artifacts that a tag names
	Signed       int `json:"signed"`    // artifacts with a signature that verifies
	Signatures   int `json:"signatures"`
	Current      int `json:"current"`  // signatures that count: see [State]
	Needless     int `json:"needless"` // superseded, replaced and duplicate ones
	Bad          int `json:"bad"`      // signatures that are not there, cannot be read or do not verify
	// Of the current signatures: those that have ended, that end before ListBefore, and before FailBefore; each number holds
	// the one before it.
	Ended    int `json:"ended"`
	Expiring int `json:"expiring"`
	Failing  int `json:"failing"`
	Findings int `json:"findings"` // all of them, notes too
	Problems int `json:"problems"`
	Unseen   int `json:"unseen"`
}

// A Repository is one that was audited.
type Repository struct {
	Name       string     `json:"name"` // HOST/REPO, or oci:DIR
	Artifacts  int        `json:"artifacts"`
	Tagged     int        `json:"tagged"`
	Signed     int        `json:"signed"`
	Unsigned   int        `json:"unsigned"` // tagged artifacts without a signature that verifies
	Signatures int        `json:"signatures"`
	Current    int        `json:"current"`
	Expiring   int        `json:"expiring"` // current ones that end before ListBefore
	Problems   int        `json:"problems"`
	Findings   int        `json:"findings"`
	Unseen     int        `json:"unseen"`
	Claims     bool       `json:"claims"` // some signature in it claims tags
	FirstEnd   *time.Time `json:"firstEnd,omitempty"`
}

// An Artifact is what a tag names, a member of an index, or something that refers to one of them.
type Artifact struct {
	Repository string        `json:"repository"` // name of a [Repository]
	Reference  string        `json:"reference"`  // HOST/REPO@DIGEST: an item for --batch
	Digest     digest.Digest `json:"digest"`
	What       string        `json:"what,omitempty"`     // "image", "index, 2 platforms", or its artifact type; "" where only its list of referrers was read
	Role       string        `json:"role"`               // root, child, referrer, fallback: as package registry has them
	Tags       []string      `json:"taggedAs,omitempty"` // sorted
	Platform   string        `json:"platform,omitempty"`
	Index      digest.Digest `json:"index,omitempty"` // the index that it is a member of
	// HoldsUntil is until when some current signature holds; FirstEnd is when the first current one ends. A signer's signature
	// that a longer lasting one of the same signer stands in for does not count for either. Both nil if there is none, or if nothing ends it.
	HoldsUntil *time.Time `json:"holdsUntil,omitempty"`
	FirstEnd   *time.Time `json:"firstEnd,omitempty"`
	Signatures []Listed   `json:"signatures"`
	Findings   []Finding  `json:"findings,omitempty"`
}

// A State says whether a signature counts.
type State string

const (
	// StateCurrent: it verifies, signs the artifact it refers to, and nothing stands in for it. Only these count for expiry.
	StateCurrent State = "current"
	// StateSuperseded: the same signature is there with a chain that lasts longer (By), and prune would delete this one.
	StateSuperseded State = "superseded"
	// StateReplaced: another signature of the same identity under the same root says the same and lasts longer (By), or is the same
	// signature with a newer timestamp or chain, but prune would keep this one.
	StateReplaced State = "replaced"
	// StateDuplicate: the same signature with the same chain and timestamp is there as another manifest (By).
	StateDuplicate State = "duplicate"
	// StateBad: it is not there, cannot be read, does not verify, or signs something else. Reason says which.
	StateBad State = "bad"
)

// A Listed is a signature as an artifact's list of referrers led to it. Chains are fingerprints of certificates in the
// report's Certificates, the leaf first.
type Listed struct {
	Digest     digest.Digest `json:"digest"`
	Core       digest.Digest `json:"core,omitempty"`
	State      State         `json:"state"`
	By         digest.Digest `json:"by,omitempty"`
	Reason     string        `json:"reason,omitempty"` // stable code, of a bad one
	Detail     string        `json:"detail,omitempty"`
	Format     string        `json:"format,omitempty"` // jws, cose
	Algorithm  string        `json:"algorithm,omitempty"`
	Scheme     string        `json:"scheme,omitempty"`
	Agent      string        `json:"agent,omitempty"`
	Identity   string        `json:"identity,omitempty"` // subject of its leaf certificate
	HasClaims  bool          `json:"hasClaims"`
	Claims     []string      `json:"claims,omitempty"`
	SignedAt   *time.Time    `json:"signedAt,omitempty"`
	Expiry     *time.Time    `json:"expiry,omitempty"` // its own, signed; nothing but signing again moves it
	Chain      []string      `json:"chain,omitempty"`
	ChainUntil *time.Time    `json:"chainUntil,omitempty"`
	Timestamp  *Timestamp    `json:"timestamp,omitempty"`
	// What ends first over chain, TSA certificate and expiry. Of a current signature all are set unless nothing ends it; of any
	// other they say what would, and count for nothing.
	Ends    *time.Time `json:"ends,omitempty"`
	EndKind EndKind    `json:"endKind,omitempty"`
	EndCert string     `json:"endCertificate,omitempty"` // fingerprint; "" of an expiry
	Remedy  Remedy     `json:"mendedBy,omitempty"`
}

// A Timestamp is a countersignature, at its word: only verify and timestamp judge it.
type Timestamp struct {
	At    time.Time  `json:"at"`
	Chain []string   `json:"chain,omitempty"` // certificates of its token, the signer's first
	By    string     `json:"by,omitempty"`    // subject of the TSA's certificate
	Until *time.Time `json:"until,omitempty"` // end of the TSA's certificate
	// Inside: the time lies in the validity of every certificate of the signature's chain.
	Inside bool `json:"insideChain"`
	// Trusted: it verifies under the TSA roots that the audit was given; nil if none were.
	Trusted *bool `json:"trusted,omitempty"`
}

// An EndKind is what ends a signature.
type EndKind string

const (
	EndLeaf         EndKind = "leaf"         // its signing certificate
	EndIntermediate EndKind = "intermediate" // a CA's certificate
	EndRoot         EndKind = "root"
	EndTSA          EndKind = "tsa"    // the certificate of its timestamp's authority
	EndExpiry       EndKind = "expiry" // its own, signed expiry

	// UseIssuer is what a certificate is that issued a TSA's; it ends nothing by itself.
	UseIssuer EndKind = "tsa-issuer"
)

// A Remedy is what mends a signature before (and mostly also after) it ends.
type Remedy string

const (
	// RemedyRechain: a renewed CA certificate, put under it by rechain. No key.
	RemedyRechain Remedy = "rechain"
	// RemedyReissue: rechain as well, once the CA has re-issued the leaf for the same key. The key stays off.
	RemedyReissue Remedy = "rechain-leaf"
	// RemedyTimestamp: timestamp adds a countersignature of a TSA whose certificate lasts longer. No key.
	RemedyTimestamp Remedy = "timestamp"
	// RemedyBoth: rechain --timestamp-url: the present chain has ended, so that a new timestamp needs a new chain.
	RemedyBoth Remedy = "rechain-timestamp"
	// RemedySign: only signing again helps: its own expiry ends, or its certificate is self-signed, which only the key renews.
	RemedySign Remedy = "sign"
)

// A Certificate is one that signatures or timestamps have.
type Certificate struct {
	certchain.Certificate
	Uses       []EndKind `json:"uses"`       // as what it was met: leaf, intermediate, root, tsa, tsa-issuer; sorted
	Signatures int       `json:"signatures"` // current ones that have it
	Ending     int       `json:"ending"`     // current ones that it ends, being the first to end

	cert *x509.Certificate
}

// X509 returns the certificate itself.
func (c *Certificate) X509() *x509.Certificate { return c.cert }

// An Expiry is a group of current signatures that end at the same time by the same certificate, or on the same day (UTC) by the expiries
// that one signer gave them.
type Expiry struct {
	At          time.Time `json:"at"` // the earliest of the group
	Kind        EndKind   `json:"kind"`
	Certificate string    `json:"certificate,omitempty"` // fingerprint; of an expiry that of the leaf
	Subject     string    `json:"subject"`               // of that certificate
	Signatures  int       `json:"signatures"`
	Artifacts   int       `json:"artifacts"`
	Timestamped int       `json:"timestamped"` // of the signatures: rechain --timestamp-url renews chain and timestamp in one step
	Remedy      Remedy    `json:"mendedBy"`
	Ended       bool      `json:"ended"`
	Listed      bool      `json:"expiring"` // before the report's ListBefore
	Fails       bool      `json:"failing"`  // before its FailBefore
}

// A Severity says whether somebody has to do something about a finding.
type Severity string

const (
	Problem Severity = "problem"
	Note    Severity = "note"
)

// A Finding is what is odd about an artifact or one of its signatures.
type Finding struct {
	Code      string          `json:"code"` // stable; [FindingKinds] lists them
	Severity  Severity        `json:"severity"`
	Text      string          `json:"text"`
	Signature digest.Digest   `json:"signature,omitempty"`
	Tag       string          `json:"tag,omitempty"`
	Others    []digest.Digest `json:"others,omitempty"` // artifacts or signatures that it is odd beside
}

// A FindingGroup counts the findings of one code.
type FindingGroup struct {
	Code      string   `json:"code"`
	Severity  Severity `json:"severity"`
	Title     string   `json:"title"` // "tag that no signature claims"
	Findings  int      `json:"findings"`
	Artifacts int      `json:"artifacts"` // that have one
}

// An Unseen is what could not be read, so that the report does not cover it.
type Unseen struct {
	Item   string `json:"item"` // HOST/REPO or HOST/REPO@DIGEST: an item for --batch
	Reason string `json:"reason,omitempty"`
	Text   string `json:"error"`
	Err    error  `json:"-"`
}
