"""The examples run, and do what their texts and the pages say."""
