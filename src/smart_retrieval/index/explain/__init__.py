"""Why a document was found: scores taken apart, as text, web page or picture."""
