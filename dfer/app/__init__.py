"""The page on which people try a trained model on their own videos: `dfer app`."""
