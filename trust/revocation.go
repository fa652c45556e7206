package trust

// A revoking is a section "revocation": whether certificates that were revoked count, and where that is looked up.
type revoking struct {
	of   string // what it stands at
	line int
}

type (
	revocationMemo     struct{}
	revocationEvidence struct{}
)
