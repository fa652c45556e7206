// Package copy moves artifacts with everything that refers to them.
package copy

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// Which referrers go along.
const (
	All        = "all"
	Signatures = "signatures" // Notary Project signatures, of the artifact and its children
	None       = "none"
)

// Options of [Artifact].
type Options struct {
	Tags      []string // to write last, in this order
	Move      []string // globs of tags that may leave the digest which holds them
	Referrers string   // All ("" too), Signatures or None
	Downgrade bool     // also bring chains that the destination has superseded
	DryRun    bool
	// DigestTags brings along what the tags sha256-<hex>.… of the source name for the digests that are copied (cosign's).
	DigestTags bool
	// Review, if not nil, decides once the graph is read and before a byte moves: it may refuse it all (an error, which is
	// returned as it is), leave signatures behind, and add referrers.
	Review func(ctx context.Context, g Graph) (Review, error)
	// Remark, if not nil, is asked for warnings once the graph is read; nothing waits for it but the end of the copy.
	Remark func(ctx context.Context, g Graph) []string
	// Progress is told how the copy goes on; nil: nobody. It may be called concurrently, and must not wait.
	Progress func(Event)
}

// A Graph is what was read of the source, for a [Options.Review].
type Graph struct {
	Root *registry.Node
	// Signatures reads the signatures of a node. What is read is not read again when it is sent.
	Signatures func(ctx context.Context, subject *registry.Node) ([]registry.Signature, error)
}

// A Review is what was decided about a graph.
type Review struct {
	Leave    map[digest.Digest]string // signature manifests that stay behind, and the reason code of each
	Add      []registry.Addition      // further referrers of nodes of the graph
	Warnings []string
}

// The kinds of an [Event].
const (
	EventPlan  = "plan"  // Bytes are to be sent, as far as is known
	EventBegin = "begin" // the object begins to travel
	EventBytes = "bytes" // Bytes more of it have travelled
	EventEnd   = "end"   // it is there, or was (Status)
)

// An Event is one step of a copy.
type Event struct {
	Kind       string
	What       string // "blob", one of the values of Object.What, "tag NAME"
	Descriptor ocispec.Descriptor
	Bytes      int64
	Status     string // of EventEnd: as of an Object or a TagResult
}

// A Result is what was copied, or with DryRun would be.
type Result struct {
	Source      string        `json:"source"`
	Destination string        `json:"destination"`
	Digest      digest.Digest `json:"digest"`
	MediaType   string        `json:"mediaType"`
	Tags        []TagResult   `json:"tags"`
	DigestTags  []TagResult   `json:"digestTags,omitempty"`
	Images      int           `json:"images"`     // manifests that are not referrers
	Referrers   int           `json:"referrers"`  // not signatures
	Signatures  int           `json:"signatures"` // Notary Project signatures
	Blobs       int           `json:"blobs"`      // sent or mounted
	BlobsThere  int           `json:"blobsThere"` // that were to be sent, and the destination had
	Bytes       int64         `json:"bytes"`      // to send (dry run) or sent
	Mounted     int64         `json:"mounted"`    // bytes mounted instead of sent
	There       int           `json:"there"`      // manifests that the destination had
	Written     int           `json:"written"`    // manifests written
	Objects     []Object      `json:"objects,omitempty"`
	DryRun      bool          `json:"dryRun,omitempty"`
	Warnings    []string      `json:"warnings,omitempty"`
}

// The statuses of an [Object].
const (
	Copied     = "copied"
	There      = "there"
	Planned    = "planned"
	Superseded = "superseded" // the destination has the same signature with a chain that holds longer
	Skipped    = "skipped"
)

// The statuses of a [TagResult], besides There and Planned.
const (
	Written = "written"
	Moved   = "moved"
)

// The values of Object.What.
const (
	Image     = "image"
	Index     = "index"
	Signature = "signature"
	Referrer  = "referrer"
)

// An Object is one manifest of the graph and what became of it.
type Object struct {
	What         string             `json:"what"` // image, index, signature, referrer
	ArtifactType string             `json:"artifactType,omitempty"`
	Subject      digest.Digest      `json:"subject,omitempty"`
	Descriptor   ocispec.Descriptor `json:"descriptor"`
	Status       string             `json:"status"` // "copied", "there", "planned", "superseded", "skipped"
	Reason       string             `json:"reason,omitempty"`
	Added        bool               `json:"added,omitempty"` // by the review: the source has it not
}

// A TagResult is one tag at the destination.
type TagResult struct {
	Tag    string        `json:"tag"`
	Digest digest.Digest `json:"digest,omitempty"` // that it names, where that is not the Result's
	Was    digest.Digest `json:"was,omitempty"`
	Status string        `json:"status"` // "written", "there", "planned", "moved"
}

// Codes of this package's rejections and of what it leaves behind.
const (
	codeTagMoves   = "tag-moves"
	codePlatform   = "platform-not-found"
	codeOptions    = "copy-options"
	codeSuperseded = "superseded"
	codeMalformed  = "malformed-referrer"
)

var reasons = map[string]string{
	codeTagMoves:            "The destination's tag names another digest, and no --move pattern lets it go.",
	codePlatform:            "The artifact has no image for the platform that was asked for, or several.",
	codeOptions:             "What was asked of copy makes no sense: an unknown kind of referrers, or a pattern that is none.",
	codeSuperseded:          "The destination has the same signature with a chain that holds longer; --downgrade brings the older one too.",
	codeMalformed:           "The destination refused a referrer whose manifest breaks its specification.",
	registry.SkippedForeign: "The source lists it as a referrer of one artifact, and its own subject is another.",
	registry.SkippedGhost:   "The source lists it as a referrer, and it is not there.",
}

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string { return maps.Clone(reasons) }

// An Error is why nothing was copied; it carries a stable reason code.
type Error struct {
	Code string
	Err  error
}

func (e *Error) Error() string  { return e.Err.Error() }
func (e *Error) Unwrap() error  { return e.Err }
func (e *Error) Reason() string { return e.Code }

func fail(code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// ErrPlatform: the artifact has no (or no single) image for the platform that was asked for.
var ErrPlatform = errors.New("no such platform")

// Artifact copies root, which was resolved in src, with its children and all that refers to any of them, to dst:
// blobs, manifests by digest from the bottom up, referrers after their subject, and the tags last, once dst lists
// every referrer that was promised. Byte-exact; what is there is not sent again; nothing is deleted. A tag that would
// move without leave is refused before the first write (registry.ErrTagMoves, reason tag-moves). Killed anywhere, a
// second run ends as an undisturbed one. The Result says how far it came even with an error.
func Artifact(ctx context.Context, dst, src *registry.Repo, root registry.Manifest, o Options) (Result, error) {
	c := &copier{dst: dst, src: src, o: o, most: maxHeld}
	c.result = Result{Source: src.Reference().String(), Destination: dst.Reference().String(), DryRun: o.DryRun}
	err := c.run(ctx, root)
	return c.result, err
}
