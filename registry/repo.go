// Package registry reads and writes artifacts where they are: in a remote repository, an OCI layout or an OCI archive.
package registry

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on what is read.
const (
	MaxManifest  = 4 << 20 // bytes of a manifest or an index (also of one page of a referrers list)
	MaxReferrers = 10_000  // of one subject
	MaxPages     = 100     // of one list
	MaxDepth     = 8       // referrers of referrers; indexes in indexes
	MaxInline    = 16 << 10
)

// ArtifactTypeSignature is the artifact type of Notary Project signature manifests, and the configuration's media type of their legacy form.
const ArtifactTypeSignature = "application/vnd.cncf.notary.signature"

// AnnotationThumbprint is the annotation of signature manifests that holds a JSON array of certificate thumbprints, leaf first.
const AnnotationThumbprint = "io.cncf.notary.x509chain.thumbprint#S256"

var (
	ErrNotFound       = errors.New("not found")
	ErrUnauthorized   = errors.New("not authorised")                 // 401, 403, no or wrong credentials
	ErrUnavailable    = errors.New("registry unavailable")           // connection, 5xx, 429 for ever, time-out
	ErrUnsupported    = errors.New("not supported by this registry") // 405 on DELETE and the like
	ErrDigestMismatch = errors.New("digest mismatch")
	ErrAmbiguous      = errors.New("ambiguous manifest")
	ErrTagMismatch    = errors.New("the tag names another digest")
	ErrTooLarge       = errors.New("too large")
	ErrMalformed      = errors.New("malformed")
	ErrTagMoves       = errors.New("the tag names another digest there")
	ErrUnsettled      = errors.New("the referrers list did not settle") // exit 7
	ErrDisk           = errors.New("local disk")                        // exit 8
	ErrConfig         = errors.New("registry configuration")            // docker's config.json, CA file: exit 3
)

// An Error carries a stable reason code (not-found, unauthorized, digest-mismatch, ambiguous-manifest, tag-digest-mismatch, …) and wraps one of the
// sentinels above.
type Error struct {
	Code string
	Err  error
}

func (e *Error) Error() string  { return e.Err.Error() }
func (e *Error) Unwrap() error  { return e.Err }
func (e *Error) Reason() string { return e.Code }

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string { panic("door") }

// Options of a [Client]: one per run. The zero value talks HTTPS (HTTP to loopback hosts) with nobody's credentials.
type Options struct {
	CAFile, ClientCert, ClientKey string
	PlainHTTP                     bool
	TrustRealms                   []string      // further hosts whose token realms are believed
	Timeout                       time.Duration // of one object; 0: 5 minutes
	PerHost                       int           // requests in flight per host; 0: 16
	UserAgent                     string
	// Credentials returns what docker's configuration holds for host; nil: anonymous. See [DockerCredentials].
	Credentials CredentialFunc
	// Warn is told once per thing that a person should know (a registry without DELETE); nil: dropped.
	Warn func(code, text string)
}

// A Credential is one for a registry host. Its String never shows secrets.
type Credential struct {
	Username, Password, RefreshToken, AccessToken string
}

// A CredentialFunc returns the credential for a registry host (empty: anonymous).
type CredentialFunc func(ctx context.Context, host string) (Credential, error)

// DockerCredentials reads docker's config.json (DOCKER_CONFIG's folder given as dir, else the user's) and its credential helpers lazily.
func DockerCredentials(dir string) CredentialFunc { panic("door") }

// Login checks the credential against host and stores it as docker login does; Logout forgets it.
func Login(ctx context.Context, c *Client, dir, host string, cred Credential) error { panic("door") }
func Logout(ctx context.Context, dir, host string) error                            { panic("door") }

// A Client opens repositories; it holds connections, tokens and what was learned of each host.
type Client struct{}

func NewClient(o Options) (*Client, error) { panic("door") }

// Open opens where ref is, for reading (and, remote repositories and layouts, for writing what refers to what is there). A layout or archive that does not exist is ErrNotFound.
func (c *Client) Open(ctx context.Context, ref Reference) (*Repo, error) { panic("door") }

// Create opens where ref is for writing; a layout's folder is made, an archive begun. overwrite replaces an archive that exists, which is
// otherwise an error.
func (c *Client) Create(ctx context.Context, ref Reference, overwrite bool) (*Repo, error) {
	panic("door")
}

// A Repo is a remote repository, a layout or an archive. Its methods may be called concurrently.
type Repo struct {
	store store
}

// Close releases what Open or Create took. Of an archive that was created it writes index and end, syncs, and renames it into place if commit is true,
// else it leaves nothing behind.
func (r *Repo) Close(commit bool) error { panic("door") }

// Reference returns where the repository is, without tag and digest.
func (r *Repo) Reference() Reference { panic("door") }

// Resolve reads the manifest that ref names (its tag, digest or both) in this repository with one request, recomputes its digest, and parses
// it strictly. ErrTagMismatch if tag and digest disagree, ErrAmbiguous for manifests that different parsers read differently.
func (r *Repo) Resolve(ctx context.Context, ref Reference) (Manifest, error) { panic("door") }

// Tagged returns the digest that a tag names now, or ErrNotFound.
func (r *Repo) Tagged(ctx context.Context, tag string) (digest.Digest, error) { panic("door") }

// Tags lists tags.
func (r *Repo) Tags(ctx context.Context) iter.Seq2[string, error] { panic("door") }

// Manifest reads a manifest by digest; only digest and size are checked.
func (r *Repo) Manifest(ctx context.Context, d ocispec.Descriptor) (Manifest, error) { panic("door") }

// Blob opens a blob; reading past its descriptor's size, or to an end that does not hash to its digest, is an error of the reader.
func (r *Repo) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) { panic("door") }

// ReadBlob reads a blob of at most limit bytes, its inline data if the descriptor carries any (checked all the same).
func (r *Repo) ReadBlob(ctx context.Context, d ocispec.Descriptor, limit int64) ([]byte, error) {
	panic("door")
}

// PushBlob stores a blob unless it is there. open is called again when a body must be sent again. from, if not nil and of the same registry, is where it may be mounted from. sent is the number of
// bytes that travelled.
func (r *Repo) PushBlob(ctx context.Context, d ocispec.Descriptor, from *Repo, open func(ctx context.Context) (io.ReadCloser, error)) (sent int64, err error) {
	panic("door")
}

// PushBytes stores a small blob with the fewest requests (one where the registry takes single-request uploads).
func (r *Repo) PushBytes(ctx context.Context, d ocispec.Descriptor, b []byte) error { panic("door") }

// HasManifest asks by HEAD.
func (r *Repo) HasManifest(ctx context.Context, d ocispec.Descriptor) (bool, error) { panic("door") }

// PushManifest stores a manifest by digest, byte-exact.
func (r *Repo) PushManifest(ctx context.Context, m Manifest) error { panic("door") }

// Tag makes tag name m's digest, unless it does; m's bytes must be there (by PushManifest) already.
func (r *Repo) Tag(ctx context.Context, m Manifest, tag string) error { panic("door") }

// A Referrer is an entry of the list of what refers to a subject.
type Referrer struct {
	ocispec.Descriptor // with ArtifactType and Annotations as the list has them: hints
}

// Referrers lists what refers to subject: by the API, or the tag schema where there is no API or it lists nothing. artifactType filters (here, whatever the registry
// did); "" is all. Order is the registry's; each digest once.
func (r *Repo) Referrers(ctx context.Context, subject ocispec.Descriptor, artifactType string) ([]Referrer, error) {
	panic("door")
}

// Attach stores manifests that all have subject as their subject, and returns when the list of referrers has them: by the registry (OCI-Subject, or
// seen in the list), or by the tag schema written as DESIGN.md section 6.6 says: one settled write for all of them. Their blobs must be there.
// ErrUnsettled if the list does not come to hold them.
func (r *Repo) Attach(ctx context.Context, subject ocispec.Descriptor, manifests ...Manifest) error {
	panic("door")
}

// Detach removes a referrer: out of the fallback index where there is one (read back settled), then the manifest is deleted. ErrUnsupported where manifests cannot be deleted;
// ErrUnauthorized where we may not; what is gone already is no error.
func (r *Repo) Detach(ctx context.Context, subject ocispec.Descriptor, d digest.Digest) error {
	panic("door")
}

// Capabilities says what was found out of a registry, for doctor.
type Capabilities struct {
	ReferrersAPI string `json:"referrersApi"` // yes, no, unknown
	Delete       string `json:"delete"`
	Mount        string `json:"mount"`
	SingleUpload string `json:"singleUpload"`
}

// Examine finds out what the repository's registry can do; write allows probes that write (an upload session, an unreferenced blob), all else only reads.
func (r *Repo) Examine(ctx context.Context, write bool) (Capabilities, error) { panic("door") }
