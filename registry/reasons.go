package registry

import "maps"

// reasons has one sentence for each code of this package.
var reasons = map[string]string{
	codeReference:    "The text is not a reference; the error says what to write instead.",
	codeNotFound:     "There is no such repository, tag, manifest, blob, layout or archive.",
	codeUnauthorized: "The registry refused the credentials, or there were none.",
	codeUnavailable:  "The registry could not be reached, or did not answer in time, or answered with an error of its own.",
	codeUnsupported:  "The place cannot do this: a registry without deletion, an archive that was written already.",
	codeDigest:       "The bytes that came back do not have the digest or the size by which they were asked for.",
	codeAmbiguous:    "The manifest can be read in two ways (duplicate or case-variant members, both manifests and layers, another media type than served), so nobody may sign or judge it.",
	codeTagDigest:    "The reference names a tag and a digest, and the tag names another digest or does not exist.",
	codeTooLarge:     "What was read is larger, longer or deeper than imprint's limits.",
	codeMalformed:    "The manifest, layout or archive breaks its specification.",
	CodeUnsettled:    "The list of referrers did not come to hold what was written; running the command again repairs it.",
	codeDisk:         "The local disk refused to read or write.",
	codeExists:       "The file exists, and nothing said that it may be replaced.",
	codeFile:         "A file that was named cannot be part of an artifact: a folder, a device, a title that stands twice or leads elsewhere, no media type.",
	codeFileChanged:  "A file was written to between the computing of its digest and its sending; nothing of it was stored.",
	codeConfig:       "Docker's configuration, a credential helper's name, or a certificate file of the network flags cannot be used.",

	codeForbidden:     "The registry knows who is asking and does not allow it.",
	codeRefused:       "The registry refused the request for a reason of its own, which the error repeats (a quota, a manifest that it does not take).",
	codeRealm:         "The registry names a token service on another host, which is believed only if --trust-realm names it.",
	codeRedirect:      "The registry redirects in circles, or to where the connection would not be encrypted.",
	codeLocation:      "The registry wants an upload sent to another host; nothing is sent there.",
	codeCapped:        "A list (referrers of a subject, tags) has more entries or pages than imprint follows; the error says how many.",
	codeLink:          "The next page of a list is on another host, or the list goes in a circle.",
	codeOccupied:      "The tag that should list the referrers of a subject holds something else, which is not overwritten.",
	codeHelper:        "Docker's credential helper failed, did not answer in time, or answered with something that is no credential.",
	codeImmutable:     "The tag names something else there and may not be changed: the registry, or its owner, has made tags immutable.",
	codeCatalog:       "The registry does not list its repositories (most that are hosted do not): name them instead.",
	codeDeleteRefused: "The registry has deletion and refuses this one (a manifest that an index refers to, a retention rule).",
}

// CodeUnsettled is the code of [ErrUnsettled], also for those who read a list back themselves.
const CodeUnsettled = "referrers-unsettled"

// The stable codes of [Error].
const (
	codeReference    = "reference-invalid"
	codeNotFound     = "not-found"
	codeUnauthorized = "unauthorized"
	codeUnavailable  = "registry-unavailable"
	codeUnsupported  = "unsupported"
	codeDigest       = "digest-mismatch"
	codeAmbiguous    = "ambiguous-manifest"
	codeTagDigest    = "tag-digest-mismatch"
	codeTooLarge     = "too-large"
	codeCapped       = "list-capped"
	codeMalformed    = "manifest-malformed"
	codeDisk         = "disk"
	codeExists       = "file-exists"
	codeFile         = "file-unfit"
	codeFileChanged  = "file-changed"
	codeConfig       = "registry-config"
)

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string { return maps.Clone(reasons) }
