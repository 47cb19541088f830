"""The published results of the CaloChallenge, and where a model of one's own stands among them.

Start with :func:`caloray.leaderboard.board.build_board`.
"""
